/* part.c -- parts: bytes first, synced; then the line that claims them. */
#include "store/part.h"
#include "base/buf.h"
#include "base/file.h"
#include "store/store_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HEAD "sallyport-part/1 "
#define PREFIX "part-"
#define MAP_SUFFIX ".map"
#define MAP_MAX ((size_t)64 << 20)
/* a map that has grown so far is written anew */
#define MAP_COMPACT ((size_t)1 << 20)
#define OPEN_TRIES 16

struct sp_part {
	const struct sp_store *store;
	char *path, *map_path;
	int fd, map_fd;
	/* of writing: the kernel lets one write at a time into a file, and whoever comes meanwhile
	 * burns a processor's time; here it sleeps */
	pthread_mutex_t lock;
	uint64_t size;
	size_t map_len;
	struct sp_ranges synced; /* all that the map claims */
};

/* --- the map ---------------------------------------------------------------------------------- */

/* Decimal digits at *p, at most 20 of them; 0 when there are none or the number is too large. */
static int
take_number(const uint8_t **p, const uint8_t *end, uint64_t *out)
{
	const uint8_t *start = *p;
	uint64_t n = 0;

	for (; *p < end && **p >= '0' && **p <= '9'; ++*p)
		if (__builtin_mul_overflow(n, (uint64_t)10, &n) ||
		    __builtin_add_overflow(n, (uint64_t)(**p - '0'), &n))
			return 0;
	*out = n;
	return *p > start;
}

static int
take_byte(const uint8_t **p, const uint8_t *end, char byte)
{
	if (*p == end || **p != (uint8_t)byte)
		return 0;
	++*p;
	return 1;
}

enum sp_code
sp_part_parse_map(const uint8_t *data, size_t len, uint64_t size, struct sp_ranges *has)
{
	const uint8_t *p = data, *end = data + len;
	uint64_t from, to;

	if (len < sizeof(HEAD) - 1 || memcmp(data, HEAD, sizeof(HEAD) - 1) != 0)
		return SP_E_INVALID;
	p += sizeof(HEAD) - 1;
	if (!take_number(&p, end, &to) || !take_byte(&p, end, '\n') || to != size)
		return SP_E_INVALID;
	while (take_number(&p, end, &from) && take_byte(&p, end, ' ') &&
	       take_number(&p, end, &to) && take_byte(&p, end, '\n') && from < to && to <= size)
		sp_ranges_add(has, from, to);
	return SP_OK;
}

static void
add_lines(struct sp_buf *buf, const struct sp_ranges *ranges)
{
	for (size_t i = 0; i < ranges->count; i++)
		sp_buf_printf(buf, "%llu %llu\n", (unsigned long long)ranges->items[i].from,
		    (unsigned long long)ranges->items[i].to);
}

/* A new map of what is synced, in one piece: a crash leaves the old one or this. */
static enum sp_code
rewrite_map(struct sp_part *part, struct sp_err *err)
{
	struct sp_buf buf = {0};
	enum sp_code code;

	if (part->map_fd >= 0)
		close(part->map_fd);
	part->map_fd = -1;
	sp_buf_printf(&buf, HEAD "%llu\n", (unsigned long long)part->size);
	add_lines(&buf, &part->synced);
	code = sp_file_write(part->map_path, 0600, buf.data, buf.len, err);
	part->map_len = buf.len;
	sp_buf_free(&buf);
	if (code != SP_OK)
		return code;
	part->map_fd = open(part->map_path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
	if (part->map_fd < 0)
		return sp_err_errno(err, "cannot open %s", part->map_path);
	return SP_OK;
}

static enum sp_code
append_map(struct sp_part *part, const struct sp_ranges *written, struct sp_err *err)
{
	struct sp_buf buf = {0};
	enum sp_code code;

	add_lines(&buf, written);
	code = sp_file_write_all(part->map_fd, buf.data, buf.len, err);
	if (code == SP_OK && fdatasync(part->map_fd) != 0)
		code = sp_err_errno(err, "cannot sync");
	part->map_len += buf.len;
	sp_buf_free(&buf);
	return code == SP_OK || err == NULL ? code : sp_err_prefix(err, "%s", part->map_path);
}

/* --- opening ---------------------------------------------------------------------------------- */

static int
is_name(const char *name)
{
	size_t len = strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz-");

	return len > 0 && len <= SP_PART_NAME_MAX && name[len] == '\0';
}

/* 1 when name (in the directory dir_fd, or a path) is still that of the file that fd has open: it
 * may have been published, or swept away, before the lock was ours. */
static int
is_named(int fd, int dir_fd, const char *name)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && fstatat(dir_fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* The file, ours alone. *again: 1 when it has to be opened once more, since it is another now, or
 * was read-only, as a maker leaves it that did not come to publish it, and is no more. */
static enum sp_code
open_once(struct sp_part *part, int *again, struct sp_err *err)
{
	const int flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
	int is_sealed = 0;
	struct stat st;

	part->fd = open(part->path, O_RDWR | O_CREAT | flags, 0600);
	if (part->fd < 0 && errno == EACCES) {
		is_sealed = 1;
		part->fd = open(part->path, O_RDONLY | flags);
	}
	*again = part->fd < 0 && is_sealed && errno == ENOENT;
	if (*again)
		return SP_OK;
	if (part->fd < 0)
		return sp_err_errno(err, "cannot open %s", part->path);
	if (sp__store_lock(part->fd, LOCK_EX | LOCK_NB) != 0)
		return errno == EWOULDBLOCK ? sp_err_set(err, SP_E_STATE,
						  "%s is being written by another", part->path)
					    : sp_err_errno(err, "cannot lock %s", part->path);
	if (fstat(part->fd, &st) != 0)
		return sp_err_errno(err, "cannot look at %s", part->path);
	if (!S_ISREG(st.st_mode))
		return sp_err_set(err, SP_E_IO, "%s is no regular file: remove it", part->path);
	*again = !is_named(part->fd, AT_FDCWD, part->path);
	if (!*again && is_sealed) {
		if (fchmod(part->fd, 0600) != 0)
			return sp_err_errno(err, "cannot write to %s", part->path);
		*again = 1;
	}
	return SP_OK;
}

static enum sp_code
open_locked(struct sp_part *part, struct sp_err *err)
{
	enum sp_code code;
	int again;

	for (int tries = 0; tries < OPEN_TRIES; tries++) {
		code = open_once(part, &again, err);
		if (code != SP_OK || !again)
			return code;
		if (part->fd >= 0)
			close(part->fd);
		part->fd = -1;
	}
	return sp_err_set(err, SP_E_IO, "%s vanishes as it is made", part->path);
}

/* What an earlier maker has left; nothing when file or map are not as they should be. */
static void
read_map(struct sp_part *part)
{
	struct sp_err ignored;
	uint8_t *data = NULL;
	struct stat st;
	size_t len;

	if (fstat(part->fd, &st) != 0 || (uint64_t)st.st_size != part->size ||
	    sp_file_read(part->map_path, MAP_MAX, &data, &len, &ignored) != SP_OK)
		return;
	if (sp_part_parse_map(data, len, part->size, &part->synced) != SP_OK)
		sp_ranges_clear(&part->synced);
	free(data);
}

/* Room for all of it now, so that a full disk is told before the work, not in its middle. */
static enum sp_code
allocate(struct sp_part *part, struct sp_err *err)
{
	if (ftruncate(part->fd, (off_t)part->size) != 0)
		return sp_err_errno(err, "cannot size %s", part->path);
	if (part->size > 0 && fallocate(part->fd, 0, 0, (off_t)part->size) != 0 &&
	    errno != EOPNOTSUPP && errno != ENOSYS)
		return sp_err_errno(err, "no room for the %llu bytes of %s",
		    (unsigned long long)part->size, part->path);
	return SP_OK;
}

enum sp_code
sp_part_open(struct sp_store *store, const char *name, uint64_t size, struct sp_part **out,
    struct sp_ranges *has, struct sp_err *err)
{
	struct sp_part *part = sp_xcalloc(1, sizeof(*part));
	enum sp_code code;

	SP_ASSERT(store->writable && is_name(name) && size <= INT64_MAX);
	part->store = store;
	part->size = size;
	part->fd = part->map_fd = -1;
	SP_ASSERT(pthread_mutex_init(&part->lock, NULL) == 0);
	part->path = sp_xasprintf("%s/tmp/" PREFIX "%s", store->dir, name);
	part->map_path = sp_xasprintf("%s" MAP_SUFFIX, part->path);
	code = open_locked(part, err);
	if (code == SP_OK) {
		read_map(part);
		code = allocate(part, err);
		/* a disk that is too small has given what it had; nothing is there for which to
		 * keep it, and others need it */
		if (code != SP_OK && part->synced.count == 0) {
			unlink(part->map_path);
			unlink(part->path);
		}
	}
	/* also makes the name of the file itself durable: both lie in one directory */
	if (code == SP_OK)
		code = rewrite_map(part, err);
	if (code == SP_OK)
		sp_ranges_copy(has, &part->synced);
	else
		sp_part_close(&part);
	*out = part;
	return code;
}

void
sp_part_close(struct sp_part **out)
{
	struct sp_part *part = out != NULL ? *out : NULL;

	if (part == NULL)
		return;
	if (part->fd >= 0)
		close(part->fd);
	if (part->map_fd >= 0)
		close(part->map_fd);
	pthread_mutex_destroy(&part->lock);
	free(part->path);
	free(part->map_path);
	sp_ranges_clear(&part->synced);
	free(part);
	*out = NULL;
}

/* --- bytes ------------------------------------------------------------------------------------ */

enum sp_code
sp_part_write(
    struct sp_part *part, uint64_t offset, const void *data, size_t len, struct sp_err *err)
{
	const uint8_t *p = data;
	int saved;
	ssize_t n;

	SP_ASSERT(len <= part->size && offset <= part->size - len);
	while (len > 0) {
		pthread_mutex_lock(&part->lock);
		n = pwrite(part->fd, p, len, (off_t)offset);
		saved = errno;
		pthread_mutex_unlock(&part->lock);
		errno = saved;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sp_err_errno(err, "cannot write %s", part->path);
		p += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return SP_OK;
}

enum sp_code
sp_part_read(struct sp_part *part, uint64_t offset, void *data, size_t len, struct sp_err *err)
{
	uint8_t *p = data;
	ssize_t n;

	SP_ASSERT(len <= part->size && offset <= part->size - len);
	while (len > 0) {
		n = pread(part->fd, p, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sp_err_errno(err, "cannot read %s", part->path);
		if (n == 0)
			return sp_err_set(err, SP_E_IO, "%s was cut short", part->path);
		p += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return SP_OK;
}

enum sp_code
sp_part_sync(struct sp_part *part, const struct sp_ranges *written, struct sp_err *err)
{
	enum sp_code code;

	if (written->count == 0)
		return SP_OK;
	SP_ASSERT(written->items[written->count - 1].to <= part->size);
	if (fdatasync(part->fd) != 0)
		return sp_err_errno(err, "cannot sync %s", part->path);
	for (size_t i = 0; i < written->count; i++)
		sp_ranges_add(&part->synced, written->items[i].from, written->items[i].to);
	if (part->map_len > MAP_COMPACT)
		code = rewrite_map(part, err);
	else
		code = append_map(part, written, err);
	return code;
}

enum sp_code
sp_part_reset(struct sp_part *part, struct sp_err *err)
{
	sp_ranges_clear(&part->synced);
	return rewrite_map(part, err);
}

enum sp_code
sp_part_publish(struct sp_part **out, const char *digest, struct sp_err *err)
{
	struct sp_part *part = *out;
	const struct sp_store *store = part->store;
	enum sp_code code;

	/* a map whose file is gone claims nothing: it may stay behind after a crash */
	code = sp__store_publish(store, &part->path, part->fd, digest, err);
	if (code == SP_OK)
		unlink(part->map_path);
	sp_part_close(out);
	if (code == SP_OK)
		sp__store_seal(store, digest);
	return code;
}

void
sp_part_drop(struct sp_part **part)
{
	/* the map first: it never claims bytes of a file that is gone. Before the lock is let go,
	 * so that whoever comes next begins another file */
	unlink((*part)->map_path);
	unlink((*part)->path);
	sp_part_close(part);
}

/* --- those of others -------------------------------------------------------------------------- */

uint64_t
sp_part_allocated(const struct sp_store *store, const char *name)
{
	char *path = sp_xasprintf("%s/tmp/" PREFIX "%s", store->dir, name);
	uint64_t bytes = 0;
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISREG(st.st_mode))
		bytes = (uint64_t)st.st_blocks * 512;
	free(path);
	return bytes;
}

static int
is_old(int dir_fd, const char *name, int64_t age_s)
{
	struct stat st;

	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (int64_t)time(NULL) - (int64_t)st.st_mtime >= age_s;
}

/* Under the lock of the file: its maker, should one come now, makes a new one. */
static void
sweep_one(int dir_fd, const char *name, int64_t age_s)
{
	size_t len = strlen(name), suffix = sizeof(MAP_SUFFIX) - 1;
	char *map = sp_xasprintf("%s" MAP_SUFFIX, name), *data;
	int fd;

	if (len > suffix && strcmp(name + len - suffix, MAP_SUFFIX) == 0) {
		/* of no file any more */
		data = sp_xasprintf("%.*s", (int)(len - suffix), name);
		if (faccessat(dir_fd, data, F_OK, AT_SYMLINK_NOFOLLOW) != 0 &&
		    is_old(dir_fd, name, age_s))
			unlinkat(dir_fd, name, 0);
		free(data);
		free(map);
		return;
	}
	fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0 && sp__store_lock(fd, LOCK_EX | LOCK_NB) == 0 && is_named(fd, dir_fd, name) &&
	    is_old(dir_fd, name, age_s)) {
		unlinkat(dir_fd, map, 0);
		unlinkat(dir_fd, name, 0);
	}
	if (fd >= 0)
		close(fd);
	free(map);
}

void
sp_part_sweep(struct sp_store *store, int64_t age_s)
{
	char *path = sp_xasprintf("%s/tmp", store->dir);
	DIR *dir = opendir(path);
	struct dirent *entry;

	SP_ASSERT(store->writable);
	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (strncmp(entry->d_name, PREFIX, sizeof(PREFIX) - 1) == 0)
			sweep_one(dirfd(dir), entry->d_name, age_s);
	if (dir != NULL)
		closedir(dir);
	free(path);
}
