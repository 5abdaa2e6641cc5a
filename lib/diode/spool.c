/* spool.c -- the receiver's files; their formats are specified in spool.h. */
#include "diode/spool.h"

#include "base/file.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <isa-l/crc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_LEN 48
#define RECORD_LEN 16
#define PARTS_OPEN 64  /* objects whose files are kept open */
#define PENDING_MAX 64 /* codewords of an object written, but not in the journal: 11 MiB */
#define READ_LEN (1u << 20)

/* An object that is being written. */
struct part {
	struct sp_object_id id;
	struct sp_layout layout;
	int is_manifest;
	int fd;		/* -1: slot is free */
	int journal_fd; /* -1 until the first flush */
	off_t end;	/* of the journal's last whole record */
	uint32_t seed;	/* crc of the journal's header */
	uint64_t used;	/* when, in writes */
	uint64_t pending[PENDING_MAX];
	unsigned pending_count;
};

struct sp_spool {
	char *dir;
	int dir_fd;
	uint64_t writes;
	struct part parts[PARTS_OPEN];
};

struct name {
	char s[SP_HEX_LEN + sizeof(".journal")];
};

static struct name
name_of(const struct sp_object_id *id, const char *suffix)
{
	char hex[2 * sizeof(id->b) + 1];
	struct name name;

	sp_hex_encode(id->b, sizeof(id->b), hex);
	snprintf(name.s, sizeof(name.s), "%s%s", hex, suffix);
	return name;
}

static void
put(uint8_t *p, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		p[i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static uint64_t
get(const uint8_t *p, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value = value << 8 | p[i];
	return value;
}

static uint32_t
crc(uint8_t *data, size_t len, uint32_t seed)
{
	return crc32_iscsi(data, (int)len, seed);
}

/* --- journal --- */

static void
header_pack(const struct part *part, uint8_t out[HEADER_LEN])
{
	memset(out, 0, HEADER_LEN);
	memcpy(out, "SPJ1", 4); // NOLINT(bugprone-not-null-terminated-result): a magic number
	out[4] = (uint8_t)part->is_manifest;
	out[5] = (uint8_t)part->layout.k;
	out[6] = (uint8_t)part->layout.parity;
	put(out + 8, part->layout.symbol_size, 2);
	memcpy(out + 12, part->id.b, sizeof(part->id.b));
	put(out + 28, part->layout.size, 8);
	put(out + 44, crc(out, 44, 0), 4);
}

static int
header_parse(uint8_t data[HEADER_LEN], const struct sp_object_id *id, struct part *part)
{
	memset(part, 0, sizeof(*part));
	if (memcmp(data, "SPJ1", 4) != 0 || get(data + 44, 4) != crc(data, 44, 0) ||
	    memcmp(data + 12, id->b, sizeof(id->b)) != 0)
		return 0;
	part->id = *id;
	part->is_manifest = data[4];
	part->layout.k = data[5];
	part->layout.parity = data[6];
	part->layout.symbol_size = (unsigned)get(data + 8, 2);
	part->layout.size = get(data + 28, 8);
	part->seed = (uint32_t)get(data + 44, 4);
	return part->is_manifest <= 1 && sp_layout_check(&part->layout, NULL) == SP_OK;
}

static void
record_pack(uint64_t first, uint32_t count, uint32_t seed, uint8_t out[RECORD_LEN])
{
	put(out, first, 8);
	put(out + 8, count, 4);
	put(out + 12, crc(out, 12, seed), 4);
}

static int
compare_u64(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static enum sp_code
journal_open(struct sp_spool *spool, struct part *part, struct sp_err *err)
{
	struct name name = name_of(&part->id, ".journal");
	uint8_t header[HEADER_LEN];
	struct stat st;

	part->journal_fd = openat(spool->dir_fd, name.s, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (part->journal_fd < 0 || fstat(part->journal_fd, &st) != 0)
		return sp_err_errno(err, "%s/%s", spool->dir, name.s);
	header_pack(part, header);
	part->seed = (uint32_t)get(header + 44, 4);
	/* one of an earlier run, or closed meanwhile; what a full disk has torn is written over */
	part->end = HEADER_LEN;
	if (st.st_size >= HEADER_LEN) {
		part->end = st.st_size - (st.st_size - HEADER_LEN) % RECORD_LEN;
		return SP_OK;
	}
	return sp_file_write_all(part->journal_fd, header, sizeof(header), err);
}

/* Data first, then the record that vouches for it: after a crash there is never a record too many.
 */
static enum sp_code
part_flush(struct sp_spool *spool, struct part *part, struct sp_err *err)
{
	uint8_t records[PENDING_MAX * RECORD_LEN];
	size_t len = 0;
	enum sp_code code = SP_OK;

	if (part->pending_count == 0)
		return SP_OK;
	if (part->journal_fd < 0)
		code = journal_open(spool, part, err);
	if (code != SP_OK) {
		if (part->journal_fd >= 0)
			close(part->journal_fd);
		part->journal_fd = -1;
		return code;
	}
	if (fdatasync(part->fd) != 0)
		return sp_err_errno(err, "%s/%s", spool->dir, name_of(&part->id, ".part").s);
	qsort(part->pending, part->pending_count, sizeof(part->pending[0]), compare_u64);
	for (unsigned i = 0, run; i < part->pending_count; i += run) {
		for (run = 1; i + run < part->pending_count; run++)
			if (part->pending[i + run] != part->pending[i] + run)
				break;
		record_pack(part->pending[i], run, part->seed, records + len);
		len += RECORD_LEN;
	}
	if (lseek(part->journal_fd, part->end, SEEK_SET) < 0)
		return sp_err_errno(err, "%s/%s", spool->dir, name_of(&part->id, ".journal").s);
	code = sp_file_write_all(part->journal_fd, records, len, err);
	if (code == SP_OK && fdatasync(part->journal_fd) != 0)
		code = sp_err_errno(err, "%s/%s", spool->dir, name_of(&part->id, ".journal").s);
	if (code == SP_OK) {
		part->end += (off_t)len;
		part->pending_count = 0;
	}
	return code;
}

/* --- parts --- */

static void
part_close(struct part *part)
{
	if (part->fd >= 0)
		close(part->fd);
	if (part->journal_fd >= 0)
		close(part->journal_fd);
	part->fd = part->journal_fd = -1;
	part->pending_count = 0;
}

static struct part *
part_find(struct sp_spool *spool, const struct sp_object_id *id)
{
	for (int i = 0; i < PARTS_OPEN; i++)
		if (spool->parts[i].fd >= 0 && memcmp(&spool->parts[i].id, id, sizeof(*id)) == 0)
			return &spool->parts[i];
	return NULL;
}

static enum sp_code
part_open(struct sp_spool *spool, const struct sp_object_id *id, const struct sp_layout *layout,
    int is_manifest, struct part **out, struct sp_err *err)
{
	struct name name = name_of(id, ".part");
	struct part *part = &spool->parts[0];

	for (int i = 0; i < PARTS_OPEN && part->fd >= 0; i++)
		if (spool->parts[i].fd < 0 || spool->parts[i].used < part->used)
			part = &spool->parts[i];
	if (part->fd >= 0) {
		enum sp_code code = part_flush(spool, part, err);

		part_close(part);
		if (code != SP_OK)
			return code;
	}
	part->fd = openat(spool->dir_fd, name.s, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (part->fd < 0)
		return sp_err_errno(err, "%s/%s", spool->dir, name.s);
	part->id = *id;
	part->layout = *layout;
	part->is_manifest = is_manifest;
	part->journal_fd = -1;
	part->pending_count = 0;
	*out = part;
	return SP_OK;
}

enum sp_code
sp_spool_write(struct sp_spool *spool, const struct sp_object_id *id,
    const struct sp_layout *layout, int is_manifest, uint64_t block, const uint8_t *data,
    struct sp_err *err)
{
	uint64_t offset = sp_layout_block_offset(layout, block);
	size_t len = (size_t)sp_layout_block_len(layout, block);
	struct part *part = part_find(spool, id);
	enum sp_code code = SP_OK;

	if (part == NULL)
		code = part_open(spool, id, layout, is_manifest, &part, err);
	if (code == SP_OK && part->pending_count == PENDING_MAX)
		code = part_flush(spool, part, err);
	if (code != SP_OK)
		return code;
	while (len > 0) {
		ssize_t n = pwrite(part->fd, data, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return sp_err_errno(err, "%s/%s", spool->dir, name_of(id, ".part").s);
		data += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	part->used = ++spool->writes;
	/* the journal of a single codeword could only say what the digest will */
	if (is_manifest || sp_layout_blocks(layout) > 1)
		part->pending[part->pending_count++] = block;
	return SP_OK;
}

enum sp_code
sp_spool_flush(struct sp_spool *spool, struct sp_err *err)
{
	enum sp_code first = SP_OK;

	for (int i = 0; i < PARTS_OPEN; i++) {
		if (spool->parts[i].fd < 0)
			continue;
		enum sp_code code =
		    part_flush(spool, &spool->parts[i], first == SP_OK ? err : NULL);

		first = first == SP_OK ? code : first;
	}
	return first;
}

void
sp_spool_finish(struct sp_spool *spool, const struct sp_object_id *id)
{
	struct part *part = part_find(spool, id);

	if (part == NULL)
		return;
	/* a manifest stays a part, for a restarted receiver; others are verified now and kept or
	 * not. A journal that cannot be written costs the restart, not the object. */
	if (!part->is_manifest || part_flush(spool, part, NULL) != SP_OK)
		part->pending_count = 0;
	part_close(part);
}

void
sp_spool_drop(struct sp_spool *spool, const struct sp_object_id *id)
{
	struct part *part = part_find(spool, id);

	if (part != NULL)
		part_close(part);
	unlinkat(spool->dir_fd, name_of(id, ".journal").s, 0);
	unlinkat(spool->dir_fd, name_of(id, ".part").s, 0);
}

void
sp_spool_drop_verified(struct sp_spool *spool, const uint8_t digest[SP_DIGEST_LEN])
{
	unlinkat(spool->dir_fd, sp_hex_of(digest).s, 0);
}

char *
sp_spool_path(const struct sp_spool *spool, const uint8_t digest[SP_DIGEST_LEN])
{
	return sp_xasprintf("%s/%s", spool->dir, sp_hex_of(digest).s);
}

/* --- verification --- */

static enum sp_code
hash_part(const struct sp_spool *spool, int fd, const char *name, uint64_t size, int is_manifest,
    uint8_t digest[SP_DIGEST_LEN], uint8_t **data, struct sp_err *err)
{
	struct sp_hash *hash = sp_hash_new(SP_SHA256);
	uint8_t *chunk = sp_xcalloc(1, is_manifest ? (size_t)size + 1 : READ_LEN);
	enum sp_code code = SP_OK;
	struct stat st;

	if (fstat(fd, &st) != 0)
		code = sp_err_errno(err, "%s/%s", spool->dir, name);
	else if ((uint64_t)st.st_size != size)
		code = sp_err_set(err, SP_E_IO, "%s/%s has %llu bytes, %llu were received",
		    spool->dir, name, (unsigned long long)st.st_size, (unsigned long long)size);
	for (uint64_t left = size; code == SP_OK && left > 0;) {
		size_t len = left < READ_LEN || is_manifest ? (size_t)left : READ_LEN;

		code = sp_file_read_all(fd, chunk, len, err);
		if (code == SP_OK)
			sp_hash_add(hash, chunk, len);
		left -= len;
	}
	sp_hash_finish(hash, digest);
	sp_hash_free(&hash);
	if (code == SP_OK && is_manifest)
		*data = chunk;
	else
		free(chunk);
	return code;
}

/* Gives the part that was read through fd its final name. The writing thread may have dropped it
 * meanwhile, and begun another under the same name: that one was not verified. */
static enum sp_code
keep_verified(const struct sp_spool *spool, const struct sp_object_id *id, int fd,
    const uint8_t digest[SP_DIGEST_LEN], struct sp_err *err)
{
	struct name name = name_of(id, ".part");
	struct stat read, named;

	if (fsync(fd) != 0 || fstat(fd, &read) != 0 ||
	    fstatat(spool->dir_fd, name.s, &named, AT_SYMLINK_NOFOLLOW) != 0)
		return sp_err_errno(err, "%s/%s", spool->dir, name.s);
	if (read.st_ino != named.st_ino)
		return sp_err_set(
		    err, SP_E_IO, "%s/%s was replaced while it was verified", spool->dir, name.s);
	if (renameat(spool->dir_fd, name.s, spool->dir_fd, sp_hex_of(digest).s) != 0 ||
	    fsync(spool->dir_fd) != 0)
		return sp_err_errno(err, "%s/%s", spool->dir, name.s);
	unlinkat(spool->dir_fd, name_of(id, ".journal").s, 0);
	return SP_OK;
}

enum sp_code
sp_spool_verify(const struct sp_spool *spool, const struct sp_object_id *id, uint64_t size,
    int is_manifest, uint8_t digest[SP_DIGEST_LEN], uint8_t **data, struct sp_err *err)
{
	struct name name = name_of(id, ".part");
	int fd =
	    openat(spool->dir_fd, name.s, O_RDONLY | O_CLOEXEC | (size == 0 ? O_CREAT : 0), 0600);
	enum sp_code code;

	*data = NULL;
	if (fd < 0)
		return sp_err_errno(err, "%s/%s", spool->dir, name.s);
	code = hash_part(spool, fd, name.s, size, is_manifest, digest, data, err);
	if (code == SP_OK && !is_manifest && memcmp(digest, id->b, sizeof(id->b)) == 0)
		code = keep_verified(spool, id, fd, digest, err);
	close(fd);
	return code;
}

/* --- start --- */

enum sp_code
sp_spool_open(const char *dir, struct sp_spool **out, struct sp_err *err)
{
	struct sp_spool *spool = sp_xcalloc(1, sizeof(*spool));
	enum sp_code code = sp_file_mkdirs(dir, 0700, err);

	spool->dir = sp_xstrdup(dir);
	spool->dir_fd = -1;
	for (int i = 0; i < PARTS_OPEN; i++)
		spool->parts[i].fd = spool->parts[i].journal_fd = -1;
	if (code != SP_OK)
		goto out;
	spool->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (spool->dir_fd < 0)
		code = sp_err_errno(err, "spool directory %s", dir);
	else if (flock(spool->dir_fd, LOCK_EX | LOCK_NB) != 0)
		code = sp_err_set(err, SP_E_STATE,
		    "spool directory %s is in use by another receiver; give each its own", dir);
out:
	if (code != SP_OK)
		sp_spool_close(&spool);
	*out = spool;
	return code;
}

void
sp_spool_close(struct sp_spool **spool)
{
	if (*spool == NULL)
		return;
	for (int i = 0; i < PARTS_OPEN; i++) {
		struct part *part = &(*spool)->parts[i];

		/* what cannot be journaled now is received again */
		if (part->fd >= 0 && part_flush(*spool, part, NULL) != SP_OK)
			part->pending_count = 0;
		part_close(part);
	}
	if ((*spool)->dir_fd >= 0)
		close((*spool)->dir_fd);
	free((*spool)->dir);
	free(*spool);
	*spool = NULL;
}

/* Reads a journal. 0 when it vouches for nothing; else *complete is malloc'd. Cuts off a torn end,
 * so that later records stand where they are looked for. */
static int
journal_load(
    struct sp_spool *spool, const struct sp_object_id *id, struct part *part, uint8_t **complete)
{
	struct name name = name_of(id, ".journal");
	int fd = openat(spool->dir_fd, name.s, O_RDWR | O_CLOEXEC);
	uint8_t header[HEADER_LEN], record[RECORD_LEN], expected[RECORD_LEN];
	off_t end = HEADER_LEN;
	uint64_t blocks;
	int valid = 0;

	if (fd < 0)
		return 0;
	if (pread(fd, header, HEADER_LEN, 0) != HEADER_LEN || !header_parse(header, id, part))
		goto out;
	blocks = sp_layout_blocks(&part->layout);
	*complete = sp_xcalloc((size_t)(blocks + 7) / 8, 1);
	for (; pread(fd, record, RECORD_LEN, end) == RECORD_LEN; end += RECORD_LEN) {
		uint64_t first = get(record, 8), count = get(record + 8, 4);

		record_pack(first, (uint32_t)count, part->seed, expected);
		if (memcmp(record, expected, RECORD_LEN) != 0 || first >= blocks ||
		    count > blocks - first)
			break;
		for (uint64_t b = first; b < first + count; b++)
			(*complete)[b / 8] |= (uint8_t)(1 << b % 8);
	}
	valid = end > HEADER_LEN && ftruncate(fd, end) == 0;
	if (!valid) {
		free(*complete);
		*complete = NULL;
	}
out:
	close(fd);
	return valid;
}

static void
load_part(
    struct sp_spool *spool, const struct sp_object_id *id, const struct sp_spool_visitor *visitor)
{
	uint8_t *complete = NULL;
	struct part part;

	if (faccessat(spool->dir_fd, name_of(id, ".part").s, F_OK, 0) == 0 &&
	    journal_load(spool, id, &part, &complete))
		visitor->part(visitor->ctx, id, &part.layout, part.is_manifest, complete);
	else
		sp_spool_drop(spool, id);
	free(complete);
}

static void
load_name(struct sp_spool *spool, const char *name, const struct sp_spool_visitor *visitor)
{
	uint8_t digest[SP_DIGEST_LEN];
	struct sp_object_id id;
	char hex[2 * sizeof(id.b) + 1];
	struct stat st;

	if (strlen(name) == SP_HEX_LEN && sp_hex_decode(name, digest, sizeof(digest)) == SP_OK) {
		if (fstatat(spool->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode))
			visitor->verified(visitor->ctx, digest, (uint64_t)st.st_size);
		return;
	}
	if (strlen(name) < sizeof(hex) - 1)
		return;
	memcpy(hex, name, sizeof(hex) - 1);
	hex[sizeof(hex) - 1] = '\0';
	if (sp_hex_decode(hex, id.b, sizeof(id.b)) != SP_OK)
		return;
	/* a pair is looked at once, by its journal; a part without one is of no use */
	if (strcmp(name + sizeof(hex) - 1, ".journal") == 0)
		load_part(spool, &id, visitor);
	else if (strcmp(name + sizeof(hex) - 1, ".part") == 0 &&
		 faccessat(spool->dir_fd, name_of(&id, ".journal").s, F_OK, 0) != 0)
		sp_spool_drop(spool, &id);
}

enum sp_code
sp_spool_load(struct sp_spool *spool, const struct sp_spool_visitor *visitor, struct sp_err *err)
{
	DIR *dir = opendir(spool->dir);
	struct dirent *entry;

	if (dir == NULL)
		return sp_err_errno(err, "spool directory %s", spool->dir);
	while ((entry = readdir(dir)) != NULL)
		load_name(spool, entry->d_name, visitor);
	closedir(dir);
	return SP_OK;
}
