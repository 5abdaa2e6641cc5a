/*
 * fetcherd_transfer.c -- downloads of large files from a hub that does what it should not, and that
 * are killed: what comes is right or refused, by name, and what was there is not fetched again.
 */
#include "fetcherd/fetcherd_transfer.h"
#include "base/file.h"
#include "base/time.h"
#include "store/hold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hostile_hub.h"

#define MIB ((uint64_t)1 << 20)
#define PER_CONNECTION (8 * MIB) /* what a crash may cost each */

static char top[64];
static struct sp_err err;

static void
ok(enum sp_code code)
{
	if (code != SP_OK)
		fail_msg("%s: %s", sp_err_word(code), err.msg);
}

static int
setup(void **state)
{
	(void)state;
	snprintf(top, sizeof(top), "/tmp/sp-transfer-XXXXXX");
	return mkdtemp(top) != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	(void)state;
	return sp_file_remove_all(top, &err) == SP_OK ? 0 : -1;
}

/* --- a download ---------------------------------------------------------------------------------
 */

#define FILES 3
static const char *const paths[FILES] = {"large.safetensors", "config.json", "large.txt"};
static const uint64_t sizes[FILES] = {40 * MIB + 123, 1000, 20 * MIB};
static struct sp_answer_file files[FILES];
static struct sp_answer_tree listing;

static struct sp_client_options hub_options;
static struct fetcherd_download d;
static char endpoint[64], store_dir[96], work_dir[96];
static struct sp_tree tree;
static uint64_t most;

static void
on_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
	(void)ctx;
	if (done_bytes > total_bytes)
		abort();
	__atomic_store_n(&most, done_bytes, __ATOMIC_RELAXED);
}

static int files_seen;

static void
on_files(void *ctx, const struct sp_lease_file *list, size_t count)
{
	(void)ctx;
	for (size_t i = 0; i < count; i++) {
		if (list[i].done > list[i].total)
			abort();
		if (strcmp(list[i].path, paths[0]) == 0 && list[i].total == sizes[0])
			__atomic_store_n(&files_seen, 1, __ATOMIC_RELAXED);
	}
}

static unsigned blobs, unmapped, told, told_open;

/* A part becomes a blob: its map must claim all of it, or a crash right now costs what it does not.
 */
static void
on_publish(const char *from)
{
	char *map = sp_xasprintf("%s.map", from);
	struct sp_ranges has = {0};
	struct sp_err ignored;
	uint8_t *data = NULL;
	struct stat st;
	size_t len;

	if (stat(from, &st) != 0 || sp_file_read(map, MIB, &data, &len, &ignored) != SP_OK ||
	    sp_part_parse_map(data, len, (uint64_t)st.st_size, &has) != SP_OK ||
	    has.bytes != (uint64_t)st.st_size)
		__atomic_fetch_add(&unmapped, 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&blobs, 1, __ATOMIC_RELAXED);
	sp_ranges_clear(&has);
	free(data);
	free(map);
}

int
rename(const char *from, const char *to)
{
	if (strstr(from, "/tmp/part-") != NULL && strstr(to, "/sha256/") != NULL)
		on_publish(from);
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* What is told of can be verified and held at once. */
static void
on_stored(void *ctx, const char *digest)
{
	struct sp_hold *hold;
	struct sp_err why;
	enum sp_code code = sp_hold_take(d.store, digest, NULL, NULL, &hold, &why);

	(void)ctx;
	sp_hold_drop(&hold);
	__atomic_fetch_add(&told, 1, __ATOMIC_RELAXED);
	if (code != SP_OK && code != SP_E_UNSUPPORTED)
		__atomic_fetch_add(&told_open, 1, __ATOMIC_RELAXED);
}

static void
prepare(unsigned port)
{
	snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", port);
	snprintf(store_dir, sizeof(store_dir), "%s/store", top);
	snprintf(work_dir, sizeof(work_dir), "%s/work", top);
	hub_options = (struct sp_client_options){.endpoint = endpoint, .token = "hf_x"};
	d = (struct fetcherd_download){.hub = &hub_options,
	    .repo = "o/m",
	    .commit = HOSTILE_COMMIT,
	    .listing = &listing,
	    .store_dir = store_dir,
	    .work_dir = work_dir,
	    .parallel = 3,
	    .backoff_ms = 1,
	    .files = on_files,
	    .stored = on_stored,
	    .progress = on_progress};
	ok(sp_store_open(store_dir, 1, &d.store, &err));
}

static void
finish(void)
{
	sp_tree_clear(&tree);
	sp_store_close(&d.store);
}

/* Blobs and parts of the store. */
static size_t
count_in(const char *sub)
{
	char *path = sp_xasprintf("%s/%s", store_dir, sub);
	DIR *dir = opendir(path);
	struct dirent *entry;
	size_t n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(dir);
	free(path);
	return n;
}

/* Downloads from a hub with that trick. */
static enum sp_code
try(const struct hostile_trick *trick, struct hostile_hub *hub)
{
	enum sp_code code;

	memset(hub, 0, sizeof(*hub));
	hub->trick = trick;
	hostile_open(hub, &listing);
	prepare(hub->port);
	hub_options.stall_s = 1;
	code = fetcherd_download(&d, &tree, &err);
	if (code == SP_OK)
		ok(sp_tree_verify(d.store, &tree, &err));
	hostile_close(hub);
	return code;
}

/* --- tricks -------------------------------------------------------------------------------------
 */

static void
test_honest(void **state)
{
	struct hostile_hub hub;

	(void)state;
	blobs = unmapped = told = told_open = 0;
	ok(try(NULL, &hub));
	assert_int_equal(blobs, 2);
	assert_int_equal(unmapped, 0);
	assert_int_equal(told, 2);
	assert_int_equal(told_open, 0);
	/* those that are there are told of as well */
	sp_tree_clear(&tree);
	ok(fetcherd_download(&d, &tree, &err));
	assert_int_equal(told, 4);
	assert_int_equal(hub.served, listing.bytes);
	assert_int_equal(__atomic_load_n(&most, __ATOMIC_RELAXED), listing.bytes);
	assert_true(hub.if_ranges > 0);
	assert_int_equal(count_in("tmp"), 0);
	finish();
}

/* What goes on by itself, and ends with the right bytes. */
static void
test_goes_on(void **state)
{
	static const struct {
		struct hostile_trick trick;
		uint64_t more; /* than the files' bytes may be served */
	} cases[] = {
	    {{HOSTILE_CUT, NULL, 4}, 8 * MIB},
	    {{HOSTILE_CUT, "large.safetensors", 20}, 8 * MIB},
	    {{HOSTILE_STALL, "large.safetensors", 1}, 4 * MIB},
	    {{HOSTILE_NO_RANGES, NULL, 0}, 64 * MIB},
	    {{HOSTILE_NO_RANGES, "large.txt", 0}, 64 * MIB},
	    {{HOSTILE_TOO_MANY, NULL, 4}, 0},
	    {{HOSTILE_RATE_LIMIT, NULL, 1}, 0},
	    {{HOSTILE_DOWN, NULL, 3}, 0},
	    {{HOSTILE_EXPIRES, NULL, 0}, 0},
	    {{HOSTILE_EXPIRES_HERE, NULL, 0}, 0},
	    {{HOSTILE_WRONG_BYTES, "large.safetensors", 1}, 64 * MIB},
	    {{HOSTILE_WRONG_BYTES, "config.json", 1}, MIB},
	    {{HOSTILE_WRONG_RANGE, "large.txt", 1}, 64 * MIB},
	    {{HOSTILE_SHORT_BODY, "large.txt", 1}, 64 * MIB},
	    {{HOSTILE_OTHER_ETAG, "large.safetensors", 2}, 64 * MIB},
	};
	struct hostile_hub hub;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum sp_code code = try(&cases[i].trick, &hub);

		if (code != SP_OK)
			fail_msg("%zu: %s: %s", i, sp_err_word(code), err.msg);
		if (hub.served > listing.bytes + cases[i].more)
			fail_msg("%zu: %llu bytes were served for %llu", i,
			    (unsigned long long)hub.served, (unsigned long long)listing.bytes);
		assert_int_equal(count_in("tmp"), 0);
		/* the token goes to the hub's own origin alone */
		if (cases[i].trick.kind != HOSTILE_EXPIRES_HERE)
			assert_int_equal(hub.signed_with_token, 0);
		assert_true(hub.with_token > 0);
		finish();
		ok(sp_file_remove_all(store_dir, &err));
		ok(sp_file_remove_all(work_dir, &err));
	}
}

/* What ends in an error that names the file; nothing wrong is in the store, no tree is. */
static void
test_refused(void **state)
{
	static const struct {
		struct hostile_trick trick;
		enum sp_code code;
		const char *says;
	} cases[] = {
	    {{HOSTILE_WRONG_BYTES, "large.safetensors", 0}, SP_E_CORRUPT, "has SHA-256"},
	    {{HOSTILE_WRONG_BYTES, "large.txt", 0}, SP_E_CORRUPT, "is git blob"},
	    {{HOSTILE_WRONG_BYTES, "config.json", 0}, SP_E_CORRUPT, "is git blob"},
	    {{HOSTILE_WRONG_RANGE, "large.txt", 0}, SP_E_CORRUPT, "sends other bytes"},
	    {{HOSTILE_NO_FIELD, "large.txt", 0}, SP_E_CORRUPT, "Content-Range: not sent"},
	    {{HOSTILE_SHORT_RANGE, "large.txt", 0}, SP_E_CORRUPT, "sends other bytes"},
	    {{HOSTILE_SHORT_BODY, "large.txt", 0}, SP_E_CORRUPT, "has 1 of"},
	    {{HOSTILE_LARGER, "large.txt", 0}, SP_E_CORRUPT, "the listing says"},
	    {{HOSTILE_OTHER_ETAG, "large.safetensors", 0}, SP_E_CORRUPT, "changed while"},
	    {{HOSTILE_ENCODED, "large.txt", 0}, SP_E_UNSUPPORTED, "gzip"},
	    {{HOSTILE_GONE, "large.txt", 0}, SP_E_CORRUPT, "fewer bytes"},
	    {{HOSTILE_DOWN, "large.txt", 0}, SP_E_UNREACHABLE, "status 503"},
	    {{HOSTILE_DOWN, "config.json", 0}, SP_E_UNREACHABLE, "status 503"},
	    {{HOSTILE_BUSY_FOR_DAY, "large.txt", 0}, SP_E_UNREACHABLE, "86400"},
	    {{HOSTILE_FORBIDDEN, "large.txt", 0}, SP_E_DENIED, "status 403"},
	    {{HOSTILE_CIRCLE, "large.txt", 0}, SP_E_UNSUPPORTED, "10 redirects"},
	};
	struct hostile_hub hub;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum sp_code code = try(&cases[i].trick, &hub);
		size_t bad = 0;

		if (code != cases[i].code || strstr(err.msg, cases[i].says) == NULL ||
		    strstr(err.msg, cases[i].trick.name) == NULL)
			fail_msg("%zu: %s: %s", i, sp_err_word(code), err.msg);
		assert_int_equal(tree.count, 0);
		for (size_t f = 0; f < FILES; f++)
			if (strcmp(paths[f], cases[i].trick.name) == 0)
				bad = f;
		assert_false(sp_store_has(d.store, files[bad].sha256.s, NULL));
		assert_true(hub.requests < 200);
		finish();
		ok(sp_file_remove_all(store_dir, &err));
		ok(sp_file_remove_all(work_dir, &err));
	}
}

/* What a failed attempt has got, the next does not ask for again. */
static void
test_resume_after_failure(void **state)
{
	static const struct hostile_trick down = {HOSTILE_DOWN, "large.txt", 0};
	struct hostile_hub hub;
	uint64_t first;

	(void)state;
	assert_int_equal(try(&down, &hub), SP_E_UNREACHABLE);
	first = hub.served;
	finish();
	ok(try(NULL, &hub));
	assert_true(first + hub.served <= listing.bytes + MIB);
	finish();
	/* all there: the hub is not asked at all */
	ok(try(NULL, &hub));
	assert_int_equal(hub.requests, 0);
	finish();
}

static int
is_cancelled(void *ctx)
{
	(void)ctx;
	return __atomic_load_n(&most, __ATOMIC_RELAXED) > 4 * MIB;
}

static void
test_cancel(void **state)
{
	static const struct hostile_trick stall = {HOSTILE_STALL, "large.safetensors", 0};
	struct hostile_hub hub = {.trick = &stall};
	int64_t began_ms;

	(void)state;
	hostile_open(&hub, &listing);
	prepare(hub.port);
	d.cancelled = is_cancelled;
	__atomic_store_n(&most, 0, __ATOMIC_RELAXED);
	began_ms = sp_time_monotonic_ms();
	assert_int_equal(fetcherd_download(&d, &tree, &err), SP_E_CANCELLED);
	/* long before the stall of 60 s would be noticed */
	assert_true(sp_time_monotonic_ms() - began_ms < 30000);
	hostile_close(&hub);
	finish();
}

/* A rate of 40 MiB/s for 60 MiB: not in less than a second. */
static void
test_rate(void **state)
{
	struct hostile_hub hub = {.trick = NULL};
	int64_t began_ms;

	(void)state;
	hostile_open(&hub, &listing);
	prepare(hub.port);
	d.rate_bytes_per_s = 40 * MIB;
	began_ms = sp_time_monotonic_ms();
	ok(fetcherd_download(&d, &tree, &err));
	assert_true(sp_time_monotonic_ms() - began_ms >= 1000);
	assert_int_equal(files_seen, 1);
	hostile_close(&hub);
	finish();
}

/* --- other processes ----------------------------------------------------------------------------
 */

/* This program started anew, as one that downloads from the hub on that port and exits. */
static pid_t
start_child(unsigned port, unsigned parallel)
{
	char port_text[16], parallel_text[16];
	pid_t pid;

	snprintf(port_text, sizeof(port_text), "%u", port);
	snprintf(parallel_text, sizeof(parallel_text), "%u", parallel);
	pid = fork();
	if (pid == 0) {
		execl("/proc/self/exe", "child", top, port_text, parallel_text, (char *)NULL);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

static int
child_main(char **argv)
{
	enum sp_code code;

	snprintf(top, sizeof(top), "%s", argv[1]);
	prepare((unsigned)atoi(argv[2]));
	d.parallel = (unsigned)atoi(argv[3]);
	code = fetcherd_download(&d, &tree, &err);
	if (code != SP_OK)
		fprintf(stderr, "child: %s\n", err.msg);
	return code == SP_OK ? 0 : 1;
}

/* kill -9 at random moments: each costs at most 8 MiB for each connection, and in the end all is
 * there and right. */
static void
test_killed(void **state)
{
	struct hostile_hub hub = {.trick = NULL};
	const unsigned parallel = 2;
	uint64_t before, at, kills = 0;
	int status = -1;
	pid_t pid;

	(void)state;
	srandom((unsigned)sp_time_monotonic_ns());
	hostile_open(&hub, &listing);
	prepare(hub.port);
	for (int i = 0; i < 40 && status != 0; i++) {
		before = hostile_served(&hub);
		pid = start_child(hub.port, parallel);
		at = before + 1 + (uint64_t)random() % (24 * MIB);
		/* the last rounds have no more to serve */
		while (hostile_served(&hub) < at && waitpid(pid, &status, WNOHANG) == 0)
			usleep(200);
		if (status == -1 || !WIFEXITED(status)) {
			kill(pid, SIGKILL);
			waitpid(pid, &status, 0);
		}
		kills += WIFSIGNALED(status);
		status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	}
	assert_int_equal(status, 0);
	assert_true(kills > 0);
	if (hostile_served(&hub) > listing.bytes + kills * parallel * PER_CONNECTION)
		fail_msg("%llu bytes were served for %llu over %llu kills",
		    (unsigned long long)hostile_served(&hub), (unsigned long long)listing.bytes,
		    (unsigned long long)kills);
	printf("%llu kills cost %llu bytes\n", (unsigned long long)kills,
	    (unsigned long long)(hostile_served(&hub) - listing.bytes));
	hostile_close(&hub);
	/* what the killed left is seen as whole by nobody: all is in the store, verified */
	ok(fetcherd_download(&d, &tree, &err));
	ok(sp_tree_verify(d.store, &tree, &err));
	finish();
}

/* Two at the same time: the bytes are served once, and both have them. */
static void
test_two(void **state)
{
	struct hostile_hub hub = {.trick = NULL};
	int first, second;
	pid_t a, b;

	(void)state;
	hostile_open(&hub, &listing);
	prepare(hub.port);
	a = start_child(hub.port, 2);
	b = start_child(hub.port, 2);
	assert_int_equal(waitpid(a, &first, 0), a);
	assert_int_equal(waitpid(b, &second, 0), b);
	assert_true(WIFEXITED(first) && WEXITSTATUS(first) == 0);
	assert_true(WIFEXITED(second) && WEXITSTATUS(second) == 0);
	assert_int_equal(hostile_served(&hub), listing.bytes);
	hostile_close(&hub);
	finish();
}

static void (*before_lock)(void); /* once: what another does between an open and a lock */

int
flock(int fd, int how)
{
	void (*other)(void) = before_lock;

	before_lock = NULL;
	if (other != NULL)
		other();
	return (int)syscall(SYS_flock, fd, how);
}

static void
exchange_work_dir(void)
{
	ok(sp_file_remove_all(work_dir, &err));
	ok(sp_file_mkdirs(work_dir, 0700, &err));
}

/* A directory that has its name since somebody else has removed ours is somebody else's. */
static void
test_forget(void **state)
{
	(void)state;
	snprintf(work_dir, sizeof(work_dir), "%s/work", top);
	ok(sp_file_mkdirs(work_dir, 0700, &err));
	before_lock = exchange_work_dir;
	ok(fetcherd_download_forget(work_dir, &err));
	assert_int_equal(access(work_dir, F_OK), 0);
	ok(fetcherd_download_forget(work_dir, &err));
	assert_int_equal(access(work_dir, F_OK), -1);
}

static int waits;

static void
on_waiting(void *ctx)
{
	(void)ctx;
	waits++;
}

static int
has_waited(void *ctx)
{
	(void)ctx;
	return waits > 2;
}

/* Who waits for another says so, can be cancelled, and is not robbed of the directory. */
static void
test_waiting(void **state)
{
	static const struct hostile_trick stall = {HOSTILE_STALL, "large.safetensors", 0};
	struct hostile_hub hub = {.trick = &stall};
	pid_t pid;

	(void)state;
	hostile_open(&hub, &listing);
	prepare(hub.port);
	pid = start_child(hub.port, 2);
	assert_true(hostile_await(&hub, MIB));
	waits = 0;
	d.waiting = on_waiting;
	d.cancelled = has_waited;
	assert_int_equal(fetcherd_download(&d, &tree, &err), SP_E_CANCELLED);
	assert_true(waits > 2);
	ok(fetcherd_download_forget(work_dir, &err));
	assert_int_equal(access(work_dir, F_OK), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(fetcherd_download_forget(work_dir, &err));
	assert_int_equal(access(work_dir, F_OK), -1);
	ok(fetcherd_download_forget(work_dir, &err));
	hostile_close(&hub);
	finish();
}

int
main(int argc, char **argv)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(test_honest),
	    T(test_goes_on),
	    T(test_refused),
	    T(test_resume_after_failure),
	    T(test_cancel),
	    T(test_rate),
	    T(test_killed),
	    T(test_two),
	    T(test_forget),
	    T(test_waiting),
	};

	hostile_list(files, paths, sizes, FILES, &listing);
	if (argc == 4)
		return child_main(argv);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
