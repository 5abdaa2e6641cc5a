/* quantd_machine.c -- where a quantization ran, for its provenance. */
#include "quantd.h"

#include "awq/power.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <gnu/libc-version.h>
#include <gnutls/gnutls.h>
#include <pcre2.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#ifdef __x86_64__
#include <cpuid.h>

/* The brand string: 48 bytes from three leaves of CPUID (Intel SDM vol. 2A, CPUID). */
static void
read_cpu(struct quantd_machine *out)
{
	unsigned words[12] = {0};
	char brand[sizeof(words) + 1] = "";
	size_t len = 0;

	for (size_t i = 0; i < 3; i++)
		if (!__get_cpuid(0x80000002 + (unsigned)i, &words[4 * i], &words[4 * i + 1],
			&words[4 * i + 2], &words[4 * i + 3]))
			return;
	memcpy(brand, words, sizeof(words));
	/* it becomes part of a signed document: printable ASCII */
	for (const char *p = brand + strspn(brand, " "); *p != '\0'; p++)
		out->cpu[len++] = *p >= ' ' && *p < 0x7f ? *p : '?';
	while (len > 0 && out->cpu[len - 1] == ' ')
		len--;
	out->cpu[len] = '\0';
}

/* The sets that the kernels choose among, as the compiler names them. */
#define SETS(X) X("avx2") X("fma") X("avx512f") X("avx512bw") X("avx512vnni") X("avx512bf16")

static void
read_instructions(struct quantd_machine *out)
{
	size_t len = 0;

	__builtin_cpu_init();
#define X(name)                                                                                   \
	if (__builtin_cpu_supports(name))                                                         \
		len += (size_t)snprintf(out->instructions + len, sizeof(out->instructions) - len, \
		    "%s%s", len > 0 ? " " : "", name);
	SETS(X)
#undef X
}
#else
static void
read_cpu(struct quantd_machine *out)
{
	struct utsname name;

	if (uname(&name) == 0)
		snprintf(out->cpu, sizeof(out->cpu), "%s", name.machine);
}

static void
read_instructions(struct quantd_machine *out)
{
	(void)out;
}
#endif

void
quantd_machine_read(const char *program, struct quantd_machine *out)
{
	memset(out, 0, sizeof(*out));
	read_cpu(out);
	read_instructions(out);
	snprintf(out->program, sizeof(out->program), "%s", program);
	snprintf(out->glibc, sizeof(out->glibc), "%s", gnu_get_libc_version());
	snprintf(out->gnutls, sizeof(out->gnutls), "%s", gnutls_check_version(NULL));
	snprintf(out->jansson, sizeof(out->jansson), "%s", jansson_version_str());
	pcre2_config(PCRE2_CONFIG_VERSION, out->pcre2);
	snprintf(out->sleef, sizeof(out->sleef), "%s", sp_power_library());
}
