/* program.c -- which code computed something. */
#include "base/program.h"
#include "base/file.h"
#include "base/version.h"

enum sp_code
sp_program_digest(const char *path, struct sp_hex *out, struct sp_err *err)
{
	struct sp_map map;
	enum sp_code code = sp_map_open(&map, path, err);

	if (code != SP_OK)
		return code;
	*out = sp_sha256_hex(map.data, map.len);
	sp_map_close(&map);
	return SP_OK;
}

enum sp_code
sp_program_name(char **out, struct sp_err *err)
{
	struct sp_hex digest;
	enum sp_code code = sp_program_digest("/proc/self/exe", &digest, err);

	if (code == SP_OK)
		*out = sp_xasprintf(SP_VERSION "+%.16s", digest.s);
	return code;
}
