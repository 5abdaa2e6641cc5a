/* model.c -- element types, safetensors files (hostile ones too), config.json. */
#include "../draw.h"
#include "base/buf.h"
#include "base/file.h"
#include "model/config.h"
#include "model/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static uint64_t seed = 1;

static uint64_t
draw(void)
{
	return draw_next(&seed);
}

static float
float_of(uint32_t bits)
{
	float value;

	memcpy(&value, &bits, sizeof(value));
	return value;
}

/* --- dtype ------------------------------------------------------------------------------------ */

/* The definition of IEEE 754 binary16, in double. */
static double
half_value(unsigned half)
{
	int exponent = half >> 10 & 31;
	double fraction = half & 0x3ff, sign = half & 0x8000 ? -1 : 1;

	if (exponent == 31)
		return fraction != 0 ? NAN : sign * INFINITY;
	return sign *
	       (exponent == 0 ? ldexp(fraction, -24) : ldexp(1024 + fraction, exponent - 25));
}

static void
test_f16_values(void **state)
{
	(void)state;
	for (unsigned half = 0; half < 0x10000; half++) {
		float value = sp_dtype_f16_to_f32((uint16_t)half);

		if (isnan(half_value(half))) {
			assert_true(isnan(value));
			assert_true(isnan(sp_dtype_f16_to_f32(sp_dtype_f32_to_f16(value))));
			continue;
		}
		assert_true((double)value == half_value(half));
		assert_int_equal(sp_dtype_f32_to_f16(value), half);
	}
}

/* The nearest of two neighbours, the even one when both are as near. */
static void
check_f16_rounding(float value)
{
	unsigned low = 0, half = sp_dtype_f32_to_f16(value) & 0x7fff, best;
	double size = fabs((double)value);

	while (low < 0x7bff && half_value(low + 1) <= size)
		low++;
	best = low;
	if (low == 0x7bff) {
		best = size >= 65520 ? 0x7c00 : low;
	} else {
		double below = size - half_value(low), above = half_value(low + 1) - size;

		best += above < below || (above == below && (low & 1));
	}
	assert_int_equal(half, best);
	assert_int_equal(sp_dtype_f32_to_f16(value) >> 15, signbit(value) != 0);
}

static void
test_f16_rounding(void **state)
{
	(void)state;
	for (unsigned half = 0; half < 0x7c00; half += 7) {
		double middle = (half_value(half) + half_value(half + 1)) / 2;

		if (half + 1 == 0x7c00)
			middle = 65520;
		check_f16_rounding((float)middle);
		check_f16_rounding(nextafterf((float)middle, 0));
		check_f16_rounding(-nextafterf((float)middle, INFINITY));
	}
	for (int i = 0; i < 2000; i++)
		check_f16_rounding(float_of(0x33000000 + (uint32_t)(draw() % 0x15000000)));
	check_f16_rounding(65519.99f);
	check_f16_rounding(1e-30f);
	assert_int_equal(sp_dtype_f32_to_f16(INFINITY), 0x7c00);
	assert_int_equal(sp_dtype_f32_to_f16(-1e30f), 0xfc00);
}

static void
test_bf16(void **state)
{
	(void)state;
	for (unsigned half = 0; half < 0x10000; half++) {
		float value = sp_dtype_bf16_to_f32((uint16_t)half);

		if (!isnan(value))
			assert_int_equal(sp_dtype_f32_to_bf16(value), half);
		else
			assert_true(isnan(sp_dtype_bf16_to_f32(sp_dtype_f32_to_bf16(value))));
	}
	assert_int_equal(sp_dtype_f32_to_bf16(float_of(0x3f808000)), 0x3f80); /* tie, even below */
	assert_int_equal(sp_dtype_f32_to_bf16(float_of(0x3f818000)), 0x3f82); /* tie, even above */
	assert_int_equal(sp_dtype_f32_to_bf16(float_of(0x3f808001)), 0x3f81);
	assert_int_equal(sp_dtype_f32_to_bf16(float_of(0x3f817fff)), 0x3f81);
	assert_int_equal(sp_dtype_f32_to_bf16(float_of(0x7f7fffff)), 0x7f80);
	assert_true(isnan(sp_dtype_bf16_to_f32(sp_dtype_f32_to_bf16(float_of(0x7f800001)))));
}

static void
test_dtype_arrays(void **state)
{
	static const enum sp_dtype kinds[] = {SP_F32, SP_F16, SP_BF16};
	const float values[3] = {1.5f, -2.0f, 0.0078125f};

	(void)state;
	for (size_t k = 0; k < 3; k++) {
		uint8_t bytes[16] = {0};
		float back[3];

		sp_dtype_from_f32(kinds[k], values, bytes + 1, 3); /* off alignment */
		sp_dtype_to_f32(kinds[k], bytes + 1, back, 3);
		assert_memory_equal(values, back, sizeof(back));
		assert_int_equal(bytes[1 + 3 * sp_dtype_size(kinds[k])], 0);
	}
	for (int i = 0; i < SP_DTYPE_COUNT; i++) {
		enum sp_dtype found;

		assert_true(sp_dtype_find(sp_dtype_name((enum sp_dtype)i), &found));
		assert_int_equal(found, i);
	}
	assert_false(sp_dtype_find("F8", &(enum sp_dtype){0}));
}

/* --- safetensors ------------------------------------------------------------------------------ */

/* header and data bytes of zeros; malloc'd to the byte, so that a sanitizer sees a read beyond. */
static uint8_t *
make_file(const char *header, size_t data, size_t *len)
{
	uint64_t n = strlen(header);
	uint8_t *file;

	*len = 8 + n + data;
	file = malloc(*len);
	assert_non_null(file);
	memset(file, 0, *len);
	memcpy(file, &n, 8);
	memcpy(file + 8, header, n);
	return file;
}

static enum sp_code
parse(const char *header, size_t data, struct sp_err *err)
{
	size_t len;
	uint8_t *file = make_file(header, data, &len);
	struct sp_safetensors *out;
	enum sp_code code = sp_safetensors_parse(file, len, "x.safetensors", &out, err);

	assert_true((code == SP_OK) == (out != NULL));
	sp_safetensors_free(&out);
	free(file);
	return code;
}

#define T(name, dtype, shape, from, to)                                                      \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" #from \
	"," #to "]}"

static void
test_safetensors_read(void **state)
{
	static const char header[] =
	    "{" T("b", "F16", "[2,3]", 4, 16) ",\"__metadata__\":{\"format\":\"pt\"}," T(
		"a", "F32", "[]", 0, 4) "," T("e", "U8", "[0]", 16, 16) "}   ";
	struct sp_safetensors *file;
	struct sp_err err;
	size_t len;
	uint8_t *bytes = make_file(header, 16, &len);
	const struct sp_tensor *b;

	(void)state;
	assert_int_equal(sp_safetensors_parse(bytes, len, "x", &file, &err), SP_OK);
	assert_int_equal(sp_safetensors_count(file), 3);
	assert_string_equal(sp_safetensors_at(file, 0)->name, "a");
	assert_int_equal(sp_safetensors_at(file, 0)->rank, 0);
	b = sp_safetensors_find(file, "b");
	assert_ptr_equal(b, sp_safetensors_at(file, 1));
	assert_int_equal(b->dtype, SP_F16);
	assert_int_equal(b->shape[1], 3);
	assert_int_equal(b->size, 12);
	assert_ptr_equal(b->data, bytes + len - 12);
	assert_int_equal(sp_safetensors_find(file, "e")->size, 0);
	assert_null(sp_safetensors_find(file, "c"));
	assert_string_equal(sp_safetensors_metadata(file, "format"), "pt");
	assert_null(sp_safetensors_metadata(file, "x"));
	sp_safetensors_free(&file);
	free(bytes);
}

static void
test_safetensors_hostile(void **state)
{
	static const struct {
		const char *header;
		size_t data;
		enum sp_code code;
		const char *says;
	} cases[] = {
	    {"{}", 0, SP_OK, ""},
	    {"{}", 1, SP_E_INVALID, "after the last tensor"},
	    {" {}", 0, SP_E_INVALID, "'{'"},
	    {"[]", 0, SP_E_INVALID, "'{'"},
	    {"{}\n", 0, SP_E_INVALID, "spaces"},
	    {"{", 0, SP_E_INVALID, "spaces"},
	    {"{}}", 0, SP_E_INVALID, "JSON"},
	    {"{" T("a", "U8", "[4]", 0, 4) "," T("a", "U8", "[4]", 0, 4) "}", 4, SP_E_INVALID,
		"duplicate"},
	    {"{" T("a", "U8", "[4]", 0, 4) "," T("b", "U8", "[4]", 0, 4) "}", 4, SP_E_INVALID,
		"overlap"},
	    {"{" T("a", "U8", "[4]", 0, 4) "," T("b", "U8", "[4]", 2, 6) "}", 6, SP_E_INVALID,
		"overlap"},
	    {"{" T("a", "U8", "[4]", 0, 4) "," T("b", "U8", "[4]", 5, 9) "}", 9, SP_E_INVALID,
		"hole"},
	    {"{" T("a", "U8", "[4]", 1, 5) "}", 5, SP_E_INVALID, "hole"},
	    {"{" T("a", "U8", "[4]", 0, 4) "}", 5, SP_E_INVALID, "after the last"},
	    {"{" T("a", "U8", "[4]", 0, 4) "}", 3, SP_E_INVALID, "inside the file"},
	    {"{" T("a", "U8", "[4]", 4, 0) "}", 4, SP_E_INVALID, "rising"},
	    {"{" T("a", "U8", "[4]", -4, 0) "}", 4, SP_E_INVALID, "rising"},
	    {"{" T("a", "U8", "[4]", 0, 4.0) "}", 4, SP_E_INVALID, "rising"},
	    {"{" T("a", "U8", "[4]", 0, 18446744073709551615) "}", 4, SP_E_INVALID, "JSON"},
	    {"{" T("a", "U8", "[4]", 0, 9223372036854775807) "}", 4, SP_E_INVALID, "inside"},
	    {"{" T("a", "F32", "[4]", 0, 4) "}", 4, SP_E_INVALID, "need 16 bytes"},
	    {"{" T("a", "U8", "[5]", 0, 4) "}", 4, SP_E_INVALID, "need 5 bytes"},
	    {"{" T("a", "U8", "[-4]", 0, 4) "}", 4, SP_E_INVALID, "shape[0]"},
	    {"{" T("a", "U8", "[2,\"2\"]", 0, 4) "}", 4, SP_E_INVALID, "shape[1]"},
	    {"{" T("a", "U8", "4", 0, 4) "}", 4, SP_E_INVALID, "shape"},
	    {"{" T("a", "F32", "[4611686018427387904,4]", 0, 0) "}", 0, SP_E_LIMIT, "too large"},
	    {"{" T("a", "F32", "[4294967296,4294967296]", 0, 0) "}", 0, SP_E_LIMIT, "too large"},
	    {"{" T("a", "U8", "[1,1,1,1,1,1,1,1,4]", 0, 4) "}", 4, SP_E_UNSUPPORTED, "9 dim"},
	    {"{" T("a", "F8_E4M3", "[4]", 0, 4) "}", 4, SP_E_UNSUPPORTED, "F8_E4M3"},
	    {"{" T("", "U8", "[4]", 0, 4) "}", 4, SP_E_INVALID, "name"},
	    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, SP_E_INVALID, "data_offsets"},
	    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]}}", 1, SP_E_INVALID,
		"two rising"},
	    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 1,
		SP_E_INVALID, "beside"},
	    {"{\"a\":7}", 0, SP_E_INVALID, "a"},
	    {"{\"__metadata__\":{\"a\":1}}", 0, SP_E_INVALID, "__metadata__.a"},
	    {"{\"__metadata__\":[]}", 0, SP_E_INVALID, "__metadata__"},
	};
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum sp_code code = parse(cases[i].header, cases[i].data, &err);

		if (code != cases[i].code)
			fail_msg("%s: %s", cases[i].header, code ? err.msg : "accepted");
		if (code && (strstr(err.msg, cases[i].says) == NULL ||
				strstr(err.msg, "x.safetensors") == NULL))
			fail_msg("%s: says %s", cases[i].header, err.msg);
	}
}

static void
test_safetensors_lengths(void **state)
{
	static const uint64_t lengths[] = {0, 3, 100000001, UINT64_MAX, UINT64_MAX - 7, 1ull << 63};
	static const char header[] =
	    "{" T("a", "U8", "[4]", 0, 4) "," T("b", "F16", "[2]", 4, 8) "}";
	struct sp_safetensors *file;
	struct sp_err err;
	size_t len;
	uint8_t *bytes;

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		bytes = make_file("{}", 0, &len);
		memcpy(bytes, &lengths[i], 8);
		assert_int_equal(sp_safetensors_parse(bytes, len, "x", &file, &err), SP_E_INVALID);
		free(bytes);
	}
	for (size_t cut = 0; cut < 8 + sizeof(header) - 1 + 8; cut++) {
		uint8_t *part;

		bytes = make_file(header, 8, &len);
		part = malloc(cut == 0 ? 1 : cut); /* to the byte */
		assert_non_null(part);
		memcpy(part, bytes, cut);
		assert_int_not_equal(sp_safetensors_parse(part, cut, "x", &file, &err), SP_OK);
		free(part);
		free(bytes);
	}
}

/* Whatever is accepted of a damaged file lies inside it. */
static void
test_safetensors_damaged(void **state)
{
	static const char header[] =
	    "{" T("a", "U8", "[4]", 0, 4) "," T("b", "F16", "[2]", 4, 8) "}";
	struct sp_safetensors *file;
	struct sp_err err;
	size_t len, accepted = 0;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		uint8_t *bytes = make_file(header, 8, &len);

		for (uint64_t n = 1 + draw() % 3; n > 0; n--)
			bytes[draw() % len] = (uint8_t)draw();
		if (sp_safetensors_parse(bytes, len, "x", &file, &err) == SP_OK) {
			accepted++;
			for (size_t k = 0; k < sp_safetensors_count(file); k++) {
				const struct sp_tensor *t = sp_safetensors_at(file, k);

				assert_true(t->data >= bytes && t->data + t->size <= bytes + len);
			}
			sp_safetensors_free(&file);
		}
		free(bytes);
	}
	assert_in_range(accepted, 100, 19000); /* damage in the data, damage in the header */
}

static void
test_safetensors_write(void **state)
{
	static const uint8_t data[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
	const struct sp_tensor in[] = {
	    {.name = "z.weight", .dtype = SP_F16, .rank = 2, .shape = {2, 2}, .data = data},
	    {.name = "a", .dtype = SP_I32, .rank = 1, .shape = {1}, .data = data + 8},
	};
	struct sp_tensor bad = in[0];
	struct sp_safetensors *file;
	struct sp_err err;
	int fd = memfd_create("safetensors", MFD_CLOEXEC);
	uint8_t bytes[512];
	ssize_t len;

	(void)state;
	assert_int_equal(sp_safetensors_write(fd, in, 2, &err), SP_OK);
	len = pread(fd, bytes, sizeof(bytes), 0);
	assert_int_equal(sp_safetensors_parse(bytes, (size_t)len, "written", &file, &err), SP_OK);
	assert_int_equal(sp_safetensors_count(file), 2);
	for (size_t i = 0; i < 2; i++) {
		const struct sp_tensor *t = sp_safetensors_at(file, i);

		assert_string_equal(t->name, in[i].name);
		assert_int_equal(t->dtype, in[i].dtype);
		assert_int_equal(t->rank, in[i].rank);
		assert_memory_equal(t->data, in[i].data, t->size);
	}
	assert_int_equal((size_t)(sp_safetensors_at(file, 0)->data - bytes) % 8, 0);
	assert_string_equal(sp_safetensors_metadata(file, "format"), "pt");
	sp_safetensors_free(&file);
	bad.name = "a\"b";
	assert_int_equal(sp_safetensors_write_header(fd, &bad, 1, &err), SP_E_INVALID);
	bad.name = "a";
	bad.shape[0] = UINT64_MAX;
	assert_int_equal(sp_safetensors_write_header(fd, &bad, 1, &err), SP_E_LIMIT);
	close(fd);
}

/* --- config ----------------------------------------------------------------------------------- */

static char *
fixture(void)
{
	struct sp_err err;
	uint8_t *data;
	size_t len;

	if (sp_file_read("tests/fixtures/model/config.json", 1 << 20, &data, &len, &err))
		fail_msg("%s", err.msg);
	return (char *)data;
}

/* The fixture with `from` replaced by `to`. */
static enum sp_code
parse_changed(const char *from, const char *to, struct sp_model_config *config, struct sp_err *err)
{
	char *text = fixture(), *at = strstr(text, from);
	struct sp_buf buf = {0};
	enum sp_code code;

	if (at == NULL)
		fail_msg("%s is not in the fixture", from);
	sp_buf_add(&buf, text, (size_t)(at - text));
	sp_buf_puts(&buf, to);
	sp_buf_puts(&buf, at + strlen(from));
	code = sp_config_parse(buf.data, buf.len, config, err);
	sp_buf_free(&buf);
	free(text);
	return code;
}

static void
test_config_fixture(void **state)
{
	struct sp_model_config c;
	struct sp_err err;
	char *text = fixture();

	(void)state;
	assert_int_equal(sp_config_parse((uint8_t *)text, strlen(text), &c, &err), SP_OK);
	assert_int_equal(c.hidden, 256);
	assert_int_equal(c.intermediate, 640);
	assert_int_equal(c.layers, 4);
	assert_int_equal(c.heads, 4);
	assert_int_equal(c.kv_heads, 2);
	assert_int_equal(c.head_dim, 64);
	assert_int_equal(c.vocab, 2048);
	assert_int_equal(c.max_positions, 2048);
	assert_true(c.rms_norm_eps == 1e-6f && c.rope.theta == 10000.0);
	assert_true(c.tied);
	assert_int_equal(c.dtype, SP_BF16);
	assert_true(sp_config_is_eos(&c, 1785));
	assert_false(sp_config_is_eos(&c, 0));
	assert_false(sp_config_is_awq(&c, "model.layers.0.mlp.up_proj"));
	free(text);
}

static void
test_config_refused(void **state)
{
	static const struct {
		const char *from, *to;
		enum sp_code code;
		const char *says;
	} cases[] = {
	    {"Qwen2ForCausalLM", "GPT2LMHeadModel", SP_E_UNSUPPORTED, "GPT2LMHeadModel"},
	    {"\"qwen2\"", "\"llama\"", SP_E_UNSUPPORTED, "model_type"},
	    {"\"silu\"", "\"gelu\"", SP_E_UNSUPPORTED, "hidden_act"},
	    {"\"hidden_size\": 256", "\"hidden_size\": 0", SP_E_INVALID, "hidden_size"},
	    {"\"hidden_size\": 256", "\"hidden_size\": \"256\"", SP_E_INVALID, "hidden_size"},
	    {"\"hidden_size\": 256", "\"hidden_size\": 257", SP_E_INVALID, "multiple"},
	    {"\"hidden_size\": 256", "\"hidden_size\": 99999999", SP_E_INVALID, "hidden_size"},
	    {"\"hidden_size\": 256", "\"hidden_size\": 252", SP_E_INVALID, "odd"},
	    {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", SP_E_INVALID, "multiple"},
	    /* a few bytes of weights must not ask for gigabytes of activations */
	    {"\"intermediate_size\": 640", "\"intermediate_size\": 8193", SP_E_INVALID,
		"intermediate_size 8193"},
	    {"\"num_attention_heads\": 4", "\"head_dim\": 514, \"num_attention_heads\": 4",
		SP_E_INVALID, "num_attention_heads 4"},
	    {"\"num_attention_heads\": 4", "\"head_dim\": \"64\", \"num_attention_heads\": 4",
		SP_E_INVALID, "head_dim"},
	    {"\"layer_types\": [", "\"layer_types\": 1, \"x\": [", SP_E_INVALID, "layer_types"},
	    {"\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": -1", SP_E_INVALID, "rms_norm_eps"},
	    {"\"rope_type\": \"default\"", "\"rope_type\": \"longrope\"", SP_E_UNSUPPORTED,
		"longrope"},
	    {"\"rope_theta\": 10000.0", "\"rope_theta\": 0", SP_E_INVALID, "rope_theta"},
	    {"\"use_sliding_window\": false", "\"use_sliding_window\": 1", SP_E_INVALID,
		"use_sliding_window"},
	    {"\"full_attention\",", "\"linear_attention\",", SP_E_UNSUPPORTED, "layer_types[0]"},
	    {"\"eos_token_id\": 1785", "\"eos_token_id\": 2048", SP_E_INVALID, "eos_token_id[0]"},
	    {"\"eos_token_id\": 1785", "\"eos_token_id\": [1,2,3,4,5,6,7,8,9]", SP_E_LIMIT, "eos"},
	    {"\"bfloat16\"", "\"float8\"", SP_E_UNSUPPORTED, "float8"},
	    {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", SP_E_INVALID, "tie"},
	};
	struct sp_model_config c;
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum sp_code code = parse_changed(cases[i].from, cases[i].to, &c, &err);

		if (code != cases[i].code)
			fail_msg("%s: %s", cases[i].to, code ? err.msg : "accepted");
		if (strstr(err.msg, cases[i].says) == NULL)
			fail_msg("%s: says %s", cases[i].to, err.msg);
	}
	assert_int_equal(sp_config_parse((const uint8_t *)"[]", 2, &c, &err), SP_E_INVALID);
	assert_int_equal(sp_config_parse((const uint8_t *)"{", 1, &c, &err), SP_E_INVALID);
}

/* The spelling of transformers 4.x, several ends, a head size of its own. */
static void
test_config_older(void **state)
{
	struct sp_model_config c;
	struct sp_err err;

	(void)state;
	assert_int_equal(parse_changed("\"dtype\": \"bfloat16\"",
			     "\"torch_dtype\": \"float16\", \"head_dim\": 32", &c, &err),
	    SP_OK);
	assert_int_equal(c.dtype, SP_F16);
	assert_int_equal(c.head_dim, 32);
	assert_int_equal(parse_changed("\"num_attention_heads\": 4",
			     "\"head_dim\": null, \"num_attention_heads\": 4", &c, &err),
	    SP_OK);
	assert_int_equal(c.head_dim, 64);
	assert_int_equal(parse_changed("\"num_attention_heads\": 4",
			     "\"head_dim\": 512, \"num_attention_heads\": 4", &c, &err),
	    SP_OK);
	assert_int_equal(
	    parse_changed("\"intermediate_size\": 640", "\"intermediate_size\": 8192", &c, &err),
	    SP_OK);
	assert_int_equal(parse_changed("\"rope_parameters\": {\n    \"rope_theta\": 10000.0,\n    "
				       "\"rope_type\": \"default\"\n  }",
			     "\"rope_theta\": 1000000, \"rope_scaling\": null", &c, &err),
	    SP_OK);
	assert_true(c.rope.theta == 1e6);
	assert_int_equal(
	    parse_changed("\"eos_token_id\": 1785", "\"eos_token_id\": [7, 9]", &c, &err), SP_OK);
	assert_true(sp_config_is_eos(&c, 7) && sp_config_is_eos(&c, 9));
	assert_false(sp_config_is_eos(&c, 1785));
}

/* A configuration of class and model_type whose other fields are `more`. */
static enum sp_code
parse_class(const char *class, const char *type, const char *more, struct sp_model_config *config,
    struct sp_err *err)
{
	char text[1024];
	int len = snprintf(text, sizeof(text),
	    "{\"architectures\":[\"%s\"],\"model_type\":\"%s\",\"hidden_size\":64,"
	    "\"intermediate_size\":96,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
	    "\"vocab_size\":100,\"max_position_embeddings\":512%s%s}",
	    class, type, more[0] == '\0' ? "" : ",", more);

	assert_in_range(len, 1, sizeof(text) - 1);
	*config = (struct sp_model_config){0};
	return sp_config_parse((const uint8_t *)text, (size_t)len, config, err);
}

#define LLAMA "LlamaForCausalLM", "llama"
#define MISTRAL "MistralForCausalLM", "mistral"
#define QWEN2 "Qwen2ForCausalLM", "qwen2"
#define QWEN3 "Qwen3ForCausalLM", "qwen3"
#define QWEN3_MOE "Qwen3MoeForCausalLM", "qwen3_moe"
#define MIXTRAL "MixtralForCausalLM", "mixtral"
#define KV "\"num_key_value_heads\":2"
#define EXPERTS KV ",\"num_experts\":6,\"num_experts_per_tok\":2,\"moe_intermediate_size\":32"

static void
test_config_classes(void **state)
{
	struct sp_model_config c;
	struct sp_err err;

	(void)state;
	assert_int_equal(parse_class(LLAMA, "", &c, &err), SP_OK);
	assert_int_equal(c.kv_heads, 4); /* as many as heads */
	assert_int_equal(c.head_dim, 16);
	assert_false(c.qkv_bias || c.o_bias || c.mlp_bias || c.qk_norm || c.tied);
	assert_int_equal(
	    parse_class(LLAMA, "\"attention_bias\":true,\"mlp_bias\":true", &c, &err), SP_OK);
	assert_true(c.qkv_bias && c.o_bias && c.mlp_bias);
	assert_int_equal(parse_class(QWEN2, KV, &c, &err), SP_OK);
	assert_true(c.qkv_bias && !c.o_bias && !c.mlp_bias && !c.qk_norm);
	assert_int_equal(parse_class(QWEN2, KV ",\"use_mrope\":false", &c, &err), SP_OK);
	assert_int_equal(parse_class(QWEN2, "", &c, &err), SP_E_INVALID);
	assert_int_equal(parse_class(QWEN2, "\"num_key_value_heads\":null", &c, &err), SP_OK);
	assert_int_equal(parse_class(QWEN3, KV, &c, &err), SP_OK);
	assert_true(!c.qkv_bias && c.qk_norm);
	assert_int_equal(c.head_dim, 128); /* the class's default, not hidden_size / heads */
	assert_int_equal(parse_class(QWEN3, KV ",\"attention_bias\":true", &c, &err), SP_OK);
	assert_true(c.qkv_bias && c.o_bias);
	assert_string_equal(sp_config_arch_name(c.arch), "Qwen3ForCausalLM");
}

static void
test_config_windows(void **state)
{
	static const char qwen[] = KV ",\"use_sliding_window\":true,\"sliding_window\":100";
	struct sp_model_config c;
	struct sp_err err;
	char text[256];

	(void)state;
	assert_int_equal(parse_class(MISTRAL, KV ",\"sliding_window\":100", &c, &err), SP_OK);
	assert_int_equal(sp_config_window(&c, 0), 100);
	assert_int_equal(sp_config_window(&c, 1), 100);
	assert_int_equal(parse_class(MISTRAL, KV ",\"sliding_window\":512", &c, &err), SP_OK);
	assert_int_equal(sp_config_window(&c, 0), 0);
	assert_int_equal(parse_class(MISTRAL, KV ",\"sliding_window\":null", &c, &err), SP_OK);
	assert_int_equal(sp_config_window(&c, 0), 0);
	assert_int_equal(parse_class(MISTRAL, KV ",\"sliding_window\":0", &c, &err), SP_E_INVALID);
	assert_int_equal(parse_class(QWEN2, KV ",\"sliding_window\":100", &c, &err), SP_OK);
	assert_int_equal(sp_config_window(&c, 1), 0);
	assert_int_equal(parse_class(QWEN2, qwen, &c, &err), SP_OK);
	assert_int_equal(sp_config_window(&c, 1), 0); /* from layer 28 on */
	snprintf(text, sizeof(text), "%s,\"max_window_layers\":1", qwen);
	assert_int_equal(parse_class(QWEN2, text, &c, &err), SP_OK);
	assert_int_equal(sp_config_window(&c, 0), 0);
	assert_int_equal(sp_config_window(&c, 1), 100);
	snprintf(text, sizeof(text),
	    "%s,\"layer_types\":[\"sliding_attention\",\"full_attention\"]", qwen);
	assert_int_equal(parse_class(QWEN3, text, &c, &err), SP_OK);
	assert_int_equal(sp_config_window(&c, 0), 100);
	assert_int_equal(sp_config_window(&c, 1), 0);
}

static void
test_config_experts(void **state)
{
	struct sp_model_config c;
	struct sp_err err;

	(void)state;
	assert_int_equal(parse_class(QWEN3_MOE, EXPERTS, &c, &err), SP_OK);
	assert_int_equal(c.experts, 6);
	assert_int_equal(c.experts_per_token, 2);
	assert_int_equal(c.moe_intermediate, 32);
	assert_int_equal(c.head_dim, 16); /* a rule here, unlike Qwen3's */
	assert_true(c.qk_norm && !c.moe_normalized);
	assert_true(sp_config_sparse(&c, 0) && sp_config_sparse(&c, 1));
	assert_int_equal(parse_class(QWEN3_MOE,
			     EXPERTS ",\"norm_topk_prob\":true,\"mlp_only_layers\":[1]", &c, &err),
	    SP_OK);
	assert_true(c.moe_normalized && sp_config_sparse(&c, 0) && !sp_config_sparse(&c, 1));
	assert_int_equal(
	    parse_class(QWEN3_MOE, EXPERTS ",\"decoder_sparse_step\":2", &c, &err), SP_OK);
	assert_true(!sp_config_sparse(&c, 0) && sp_config_sparse(&c, 1));
	assert_int_equal(
	    parse_class(
		QWEN3_MOE, EXPERTS ",\"use_sliding_window\":true,\"sliding_window\":100", &c, &err),
	    SP_OK);
	assert_int_equal(sp_config_window(&c, 0), 100);
	assert_int_equal(
	    parse_class(MIXTRAL, KV ",\"num_local_experts\":4,\"num_experts_per_tok\":4", &c, &err),
	    SP_OK);
	assert_true(c.moe_normalized && sp_config_sparse(&c, 0) && c.rope.theta == 1e6 &&
		    c.rms_norm_eps == 1e-5f);
	assert_int_equal(c.experts, 4);
	assert_int_equal(c.moe_intermediate, 96);
	assert_int_equal(sp_config_window(&c, 0), 0);
	assert_int_equal(parse_class(LLAMA, KV ",\"num_local_experts\":4", &c, &err), SP_OK);
	assert_int_equal(c.experts, 0);
}

#define ROPE(fields) "\"rope_theta\":5e5,\"rope_scaling\":{" fields "}"

static void
test_config_rope(void **state)
{
	struct sp_model_config c;
	struct sp_err err;

	(void)state;
	assert_int_equal(parse_class(LLAMA, "", &c, &err), SP_OK);
	assert_true(c.rope.kind == SP_ROPE_DEFAULT && c.rope.theta == 10000 &&
		    c.rope.attention_factor == 1);
	assert_int_equal(
	    parse_class(LLAMA, ROPE("\"type\":\"linear\",\"factor\":2"), &c, &err), SP_OK);
	assert_true(c.rope.kind == SP_ROPE_LINEAR && c.rope.factor == 2 && c.rope.theta == 5e5);
	assert_int_equal(
	    parse_class(LLAMA,
		"\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":7e5,\"factor\":8.0,"
		"\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,"
		"\"original_max_position_embeddings\":64}",
		&c, &err),
	    SP_OK);
	assert_true(c.rope.kind == SP_ROPE_LLAMA3 && c.rope.theta == 7e5 && c.rope.factor == 8 &&
		    c.rope.low_freq == 1 && c.rope.high_freq == 4 && c.rope.original == 64);
	assert_int_equal(parse_class(LLAMA,
			     ROPE("\"rope_type\":\"yarn\",\"factor\":4.0,"
				  "\"original_max_position_embeddings\":128"),
			     &c, &err),
	    SP_OK);
	assert_true(c.rope.kind == SP_ROPE_YARN && c.rope.beta_fast == 32 &&
		    c.rope.beta_slow == 1 && c.rope.truncate);
	assert_true(fabs(c.rope.attention_factor - 1.1386294361119891) < 1e-12);
	assert_int_equal(
	    parse_class(LLAMA,
		ROPE("\"rope_type\":\"yarn\",\"factor\":4.0,\"attention_factor\":1.0"), &c, &err),
	    SP_OK);
	assert_true(c.rope.attention_factor == 1 && c.rope.original == 512);
	/* both spellings, alike */
	assert_int_equal(
	    parse_class(LLAMA,
		ROPE("\"type\":\"linear\",\"factor\":2.0") ",\"rope_parameters\":{\"rope_type\":"
							   "\"linear\",\"rope_theta\":500000,"
							   "\"factor\":2}",
		&c, &err),
	    SP_OK);
}

static void
test_config_classes_refused(void **state)
{
	static const struct {
		const char *class, *type, *more;
		enum sp_code code;
		const char *says;
	} cases[] = {
	    {"Gemma2ForCausalLM", "gemma2", "", SP_E_UNSUPPORTED, "Qwen3ForCausalLM"},
	    {LLAMA, "\"attention_bias\":1", SP_E_INVALID, "attention_bias"},
	    {LLAMA, "\"sliding_window\":64", SP_E_UNSUPPORTED, "sliding_window"},
	    {LLAMA, "\"attn_logit_softcapping\":50.0", SP_E_UNSUPPORTED, "attn_logit_softcapping"},
	    {QWEN2, KV ",\"use_mrope\":true", SP_E_UNSUPPORTED, "use_mrope"},
	    {LLAMA, "\"partial_rotary_factor\":0.5", SP_E_UNSUPPORTED, "partial_rotary_factor"},
	    {LLAMA, "\"layer_types\":[\"full_attention\"]", SP_E_INVALID, "layer_types"},
	    {LLAMA, "\"layer_types\":[\"full_attention\",\"sliding_attention\"]", SP_E_UNSUPPORTED,
		"layer_types[1]"},
	    {QWEN2, KV ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]",
		SP_E_UNSUPPORTED, "layer_types[1]"},
	    {MISTRAL,
		KV ",\"layer_types\":[\"full_attention\",\"full_attention\"],"
		   "\"sliding_window\":9",
		SP_E_UNSUPPORTED, "layer_types[0]"},
	    {QWEN3_MOE, KV ",\"num_experts_per_tok\":2", SP_E_INVALID, "num_local_experts"},
	    {QWEN3_MOE,
		KV ",\"num_experts\":6,\"num_experts_per_tok\":2,\"moe_intermediate_size\":4096",
		SP_E_INVALID, "moe_intermediate_size"},
	    {QWEN3_MOE, KV ",\"num_experts\":6,\"num_experts_per_tok\":7", SP_E_INVALID,
		"num_experts_per_tok"},
	    {QWEN3_MOE, EXPERTS ",\"decoder_sparse_step\":0", SP_E_INVALID, "decoder_sparse_step"},
	    {QWEN3_MOE, EXPERTS ",\"mlp_only_layers\":[2]", SP_E_INVALID, "mlp_only_layers[0]"},
	    {QWEN3_MOE, EXPERTS ",\"mlp_only_layers\":2", SP_E_INVALID, "mlp_only_layers"},
	    {QWEN3_MOE, EXPERTS ",\"shared_expert_intermediate_size\":64", SP_E_UNSUPPORTED,
		"shared_expert_intermediate_size"},
	    {MIXTRAL, KV ",\"num_local_experts\":4", SP_E_INVALID, "num_experts_per_tok"},
	    {LLAMA, ROPE("\"rope_type\":\"dynamic\",\"factor\":2.0"), SP_E_UNSUPPORTED, "dynamic"},
	    {LLAMA, ROPE("\"type\":7"), SP_E_UNSUPPORTED, "not a string"},
	    {LLAMA, ROPE("\"rope_type\":\"linear\""), SP_E_INVALID, "factor is missing"},
	    {LLAMA, ROPE("\"rope_type\":\"linear\",\"factor\":0"), SP_E_INVALID, "factor"},
	    {LLAMA, ROPE("\"rope_type\":\"llama3\",\"factor\":2"), SP_E_INVALID, "low_freq_factor"},
	    {LLAMA,
		ROPE("\"rope_type\":\"llama3\",\"factor\":2,\"low_freq_factor\":4,"
		     "\"high_freq_factor\":4"),
		SP_E_INVALID, "high_freq_factor"},
	    {LLAMA, ROPE("\"rope_type\":\"yarn\",\"factor\":2,\"truncate\":1"), SP_E_INVALID,
		"truncate"},
	    {LLAMA, ROPE("\"rope_type\":\"yarn\",\"short_factor\":[1,2]"), SP_E_UNSUPPORTED,
		"rope_scaling: short_factor"},
	    {LLAMA, "\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1e4}}",
		SP_E_UNSUPPORTED, "rope_parameters: full_attention"},
	    {LLAMA, "\"rope_scaling\":[]", SP_E_INVALID, "rope_scaling: not an object"},
	    {LLAMA,
		ROPE("\"type\":\"linear\",\"factor\":2.0") ",\"rope_parameters\":{\"rope_theta\":"
							   "1e4}",
		SP_E_INVALID, "different things"},
	};
	struct sp_model_config c;
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum sp_code code =
		    parse_class(cases[i].class, cases[i].type, cases[i].more, &c, &err);

		if (code != cases[i].code)
			fail_msg("%s: %s", cases[i].more, code ? err.msg : "accepted");
		if (strstr(err.msg, cases[i].says) == NULL)
			fail_msg("%s: says %s", cases[i].more, err.msg);
	}
}

#define QUANT(fields) "{\n\"quantization_config\": {" fields "},"

static void
test_config_awq(void **state)
{
	static const struct {
		const char *fields;
		enum sp_code code;
		const char *says;
	} cases[] = {
	    {QUANT("\"quant_method\":\"gptq\""), SP_E_UNSUPPORTED, "gptq"},
	    {QUANT("\"bits\":4"), SP_E_INVALID, "quant_method"},
	    {QUANT("\"quant_method\":\"awq\",\"version\":\"gemv\""), SP_E_UNSUPPORTED, "gemv"},
	    {QUANT("\"quant_method\":\"awq\",\"zero_point\":false"), SP_E_UNSUPPORTED, "zero_po"},
	    {QUANT("\"quant_method\":\"awq\",\"zero_point\":true,\"bits\":8"), SP_E_UNSUPPORTED,
		"bits is 8"},
	    {QUANT("\"quant_method\":\"awq\",\"zero_point\":true,\"bits\":4,\"group_size\":0"),
		SP_E_INVALID, "group_size"},
	    {QUANT("\"quant_method\":\"awq\",\"zero_point\":true,\"lm_head\":true"),
		SP_E_UNSUPPORTED, "lm_head"},
	};
	struct sp_model_config c;
	struct sp_err err;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(parse_changed("{", cases[i].fields, &c, &err), cases[i].code);
		if (strstr(err.msg, cases[i].says) == NULL ||
		    strstr(err.msg, "quantization_config") == NULL)
			fail_msg("%s: says %s", cases[i].fields, err.msg);
	}
	assert_int_equal(
	    parse_changed("{",
		QUANT("\"quant_method\":\"awq\",\"zero_point\":true,\"w_bit\":4,\"version\":"
		      "\"gemm\",\"q_group_size\":64,\"modules_to_not_convert\":[\"down_proj\"]"),
		&c, &err),
	    SP_OK);
	assert_int_equal(c.awq.bits, 4);
	assert_int_equal(c.awq.group_size, 64);
	assert_true(sp_config_is_awq(&c, "model.layers.0.mlp.up_proj"));
	assert_false(sp_config_is_awq(&c, "model.layers.0.mlp.down_proj"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_f16_values),
	    cmocka_unit_test(test_f16_rounding),
	    cmocka_unit_test(test_bf16),
	    cmocka_unit_test(test_dtype_arrays),
	    cmocka_unit_test(test_safetensors_read),
	    cmocka_unit_test(test_safetensors_hostile),
	    cmocka_unit_test(test_safetensors_lengths),
	    cmocka_unit_test(test_safetensors_damaged),
	    cmocka_unit_test(test_safetensors_write),
	    cmocka_unit_test(test_config_fixture),
	    cmocka_unit_test(test_config_refused),
	    cmocka_unit_test(test_config_older),
	    cmocka_unit_test(test_config_classes),
	    cmocka_unit_test(test_config_windows),
	    cmocka_unit_test(test_config_experts),
	    cmocka_unit_test(test_config_rope),
	    cmocka_unit_test(test_config_classes_refused),
	    cmocka_unit_test(test_config_awq),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
