/* fuzz.c -- what the fuzz targets share. */
#include "fuzz.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

char *
fuzz_text(const uint8_t *data, size_t len)
{
	size_t n = len > 0 ? strnlen((const char *)data, len) : 0;
	char *text = malloc(n + 1);

	SP_ASSERT(text != NULL);
	if (n > 0)
		memcpy(text, data, n);
	text[n] = '\0';
	return text;
}

int
fuzz_file(const uint8_t *data, size_t len, char path[FUZZ_PATH_MAX])
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	SP_ASSERT(fd >= 0);
	SP_ASSERT(write(fd, data, len) == (ssize_t)len && fchmod(fd, 0400) == 0);
	snprintf(path, FUZZ_PATH_MAX, "/proc/self/fd/%d", fd);
	return fd;
}

/* libconfig 1.5 leaks a text that the file's end or an error cuts off. */
// NOLINTNEXTLINE(bugprone-reserved-identifier): LeakSanitizer looks for it
const char *__lsan_default_suppressions(void);
const char *
__lsan_default_suppressions(void)
{
	return "leak:libconfig.so";
}
