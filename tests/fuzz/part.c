/* part.c -- the map of a part: what it claims lies within the file, in order, and apart. */
#include "store/part.h"
#include "fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	/* sizes that seeds have, and that are at the edges */
	static const uint64_t sizes[] = {0, 100, UINT64_C(1) << 32, INT64_MAX};
	struct sp_ranges has = {0};
	uint64_t bytes;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (sp_part_parse_map(data, len, sizes[i], &has) != SP_OK)
			SP_ASSERT(has.count == 0);
		bytes = 0;
		for (size_t r = 0; r < has.count; r++) {
			SP_ASSERT(has.items[r].from < has.items[r].to);
			SP_ASSERT(has.items[r].to <= sizes[i]);
			SP_ASSERT(r == 0 || has.items[r - 1].to < has.items[r].from);
			bytes += has.items[r].to - has.items[r].from;
		}
		SP_ASSERT(bytes == has.bytes);
		sp_ranges_clear(&has);
	}
	return 0;
}
