/* spill.c -- rows of values in memory or in a file that has no name. */
#include "engine/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Where the filesystem knows no O_TMPFILE, a name is there for a moment. */
static int
open_nameless(const char *dir, struct sp_err *err)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char *path;

	if (fd >= 0)
		return fd;
	path = sp_xasprintf("%s/spill.tmp-XXXXXX", dir);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		sp_err_errno(err, "cannot make a file in %s", dir);
	else
		unlink(path);
	free(path);
	return fd;
}

enum sp_code
sp_spill_open(
    struct sp_spill *spill, size_t count, size_t bound, const char *dir, struct sp_err *err)
{
	size_t size = count * sizeof(float);
	enum sp_code code = SP_OK;
	void *data;
	int fd, rc;

	*spill = (struct sp_spill){.count = count};
	if (size <= bound) {
		spill->values = calloc(count + 1, sizeof(float));
		return spill->values != NULL
			   ? SP_OK
			   : sp_err_set(err, SP_E_NO_MEMORY, "%zu MiB of activations", size >> 20);
	}
	if ((fd = open_nameless(dir, err)) < 0)
		return err->code;
	/* a hole written through a mapping of a full disk would be SIGBUS */
	if ((rc = posix_fallocate(fd, 0, (off_t)size)) != 0) {
		errno = rc;
		code = sp_err_errno(err, "%s: no room for %zu MiB of activations", dir, size >> 20);
		goto out;
	}
	data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED) {
		code = sp_err_errno(err, "%s: cannot map a file", dir);
		goto out;
	}
	spill->values = data;
	spill->mapped = 1;
out:
	close(fd);
	return code;
}

void
sp_spill_close(struct sp_spill *spill)
{
	if (spill->mapped)
		munmap(spill->values, spill->count * sizeof(float));
	else
		free(spill->values);
	*spill = (struct sp_spill){0};
}

void
sp_spill_rest(const struct sp_spill *spill, size_t first, size_t count)
{
	uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
	uintptr_t from = ((uintptr_t)(spill->values + first) + page - 1) / page * page;
	uintptr_t to = (uintptr_t)(spill->values + first + count) / page * page;

	/* of a shared mapping this drops what the process holds; the file keeps the values */
	if (spill->mapped && to > from)
		madvise((void *)from, to - from, MADV_DONTNEED);
}
