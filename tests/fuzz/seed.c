/* seed.c -- fuzz-seed DIR: seeds that only our own code can write, DIR/NAME.seeds/FILE. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "../unit/release_rig.h"
#include "base/file.h"
#include "bus/envelope.h"
#include "diode/frame.h"
#include "diode/manifest.h"
#include "fuzz.h"
#include "ledger/note.h"
#include "model/safetensors.h"
#include "operator.pb-c.h"
#include "release/snapshot.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define ID "0123456789abcdef0123456789abcdef"

static const char *root;
static struct sp_err err;

static void
put(const char *target, const char *name, const void *data, size_t len)
{
	char *dir = sp_xasprintf("%s/%s.seeds", root, target);
	char *path = sp_xasprintf("%s/%s", dir, name);
	FILE *file;

	SP_ASSERT(sp_file_mkdirs(dir, 0755, &err) == SP_OK);
	file = fopen(path, "w");
	SP_ASSERT(file != NULL && fwrite(data, 1, len, file) == len && fclose(file) == 0);
	free(path);
	free(dir);
}

static void
put_message(const char *target, const char *name, const ProtobufCMessage *message)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	uint8_t *data = malloc(len + 1);

	SP_ASSERT(data != NULL && protobuf_c_message_pack(message, data) == len);
	put(target, name, data, len);
	free(data);
}

/* --- bus and operators ----------------------------------------------------------------------- */

/*
 * A message with every field of its type set, as far as a generic value can: texts that most rules
 * take, so that the fuzzer has the shape and only looks for values.
 */
static ProtobufCMessage *sample(const ProtobufCMessageDescriptor *type, const char *member);

/* A list of one when the field is repeated. */
static void
set_value(uint8_t *at, int many, const void *value, size_t size)
{
	void *list;

	if (!many) {
		memcpy(at, value, size);
		return;
	}
	list = sp_xcalloc(1, size);
	memcpy(list, value, size);
	*(void **)(void *)at = list;
}

static const char *
sample_text(const char *name)
{
	if (strcmp(name, "digest") == 0)
		return RIG_TREE;
	if (strcmp(name, "code") == 0)
		return "io";
	return strcmp(name, "lease") == 0 || strcmp(name, "job") == 0 ? ID : "fetch";
}

static void
set_field(uint8_t *base, const ProtobufCFieldDescriptor *field)
{
	const ProtobufCBinaryData bytes = {32, sp_xcalloc(1, 32)};
	const ProtobufCMessage *inner;
	uint8_t *at = base + field->offset;
	int many = field->label == PROTOBUF_C_LABEL_REPEATED;
	const char *text;
	size_t one = 1;

	if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
		inner = sample(field->descriptor, NULL);
		set_value(at, many, &inner, sizeof(inner));
	} else if (field->type == PROTOBUF_C_TYPE_STRING) {
		text = sample_text(field->name);
		set_value(at, many, &text, sizeof(text));
	} else if (field->type == PROTOBUF_C_TYPE_BYTES) {
		set_value(at, many, &bytes, sizeof(bytes));
	} else {
		SP_ASSERT(!many);
		*at = 1; /* little-endian; an enum's first real value */
	}
	if (many)
		memcpy(base + field->quantifier_offset, &one, sizeof(one));
}

/* member: of its oneof, the one to set; NULL: the first. */
static ProtobufCMessage *
sample(const ProtobufCMessageDescriptor *type, const char *member)
{
	ProtobufCMessage *message = sp_xcalloc(1, type->sizeof_message);
	const ProtobufCFieldDescriptor *field;
	int chosen = 0;

	protobuf_c_message_init(type, message);
	for (unsigned i = 0; i < type->n_fields; i++) {
		field = &type->fields[i];
		if (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
			if (chosen || (member != NULL && strcmp(member, field->name) != 0))
				continue;
			chosen = 1;
			memcpy((uint8_t *)message + field->quantifier_offset, &field->id,
			    sizeof(field->id));
		}
		set_field((uint8_t *)message, field);
	}
	return message;
}

static void
put_samples(const char *target, const ProtobufCMessageDescriptor *type)
{
	const ProtobufCFieldDescriptor *field;
	char *name;

	for (unsigned i = 0; i < type->n_fields; i++) {
		field = &type->fields[i];
		if (!(field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
			continue;
		name = sp_xasprintf("%s.%s", type->short_name, field->name);
		put_message(target, name, sample(type, field->name));
		free(name);
	}
}

static void
put_events(void)
{
	const ProtobufCMessageDescriptor *type = &sallyport__child_event__descriptor;
	struct sp_buf frame = {0};
	Sallyport__ChildEvent *event;
	uint8_t body[4096];
	size_t len;

	for (unsigned i = 0; i < type->n_fields; i++) {
		event = (Sallyport__ChildEvent *)sample(type, type->fields[i].name);
		/* a child does not know its lease */
		if (event->event_case == SALLYPORT__CHILD_EVENT__EVENT_PROGRESS)
			event->progress->lease = (char *)(uintptr_t)protobuf_c_empty_string;
		SP_ASSERT(sallyport__child_event__get_packed_size(event) <= sizeof(body));
		len = sallyport__child_event__pack(event, body);
		sp_buf_u32be(&frame, (uint32_t)len);
		sp_buf_add(&frame, body, len);
	}
	put("child", "events", frame.data, frame.len);
	sp_buf_free(&frame);
	put_message("child", "task", sample(&sallyport__task__descriptor, NULL));
}

/* --- diode and files ---------------------------------------------------------------------------
 */

static void
put_diode(void)
{
	struct sp_frame frame = {.passes = 1, .layout = {1000, 4, 6, 64}, .block = 2, .index = 5};
	uint8_t datagram[SP_FRAME_HEADER_LEN + 64 + SP_FRAME_TAG_LEN] = {0};
	struct sp_object objects[3] = {
	    {{1}, 700, SP_OBJECT_RELEASE}, {{2}, 80, SP_OBJECT_TREE}, {{3}, 900, SP_OBJECT_BLOB}};
	struct sp_manifest manifest = {
	    .job = RIG_JOB, .release = {1}, .objects = objects, .count = 3};
	uint8_t *data;
	size_t len;

	sp_frame_write(&frame, datagram);
	put("frame", "symbol", datagram, sizeof(datagram));
	memset(&frame.layout, 0, sizeof(frame.layout));
	frame.layout.symbol_size = 64;
	frame.block = frame.index = 0;
	frame.type = SP_FRAME_HEARTBEAT;
	sp_frame_write(&frame, datagram);
	put("frame", "heartbeat", datagram, sizeof(datagram));
	SP_ASSERT(sp_manifest_pack(&manifest, &data, &len, &err) == SP_OK);
	put("manifest", "three", data, len);
	free(data);
}

static void
put_tree(void)
{
	struct sp_tree tree = {0};
	uint8_t *data;
	size_t len;

	SP_ASSERT(sp_tree_add(&tree, "config.json", 7, RIG_TREE, 0, &err) == SP_OK);
	SP_ASSERT(sp_tree_add(&tree, "bin/run", 1 << 20, RIG_OTHER, 1, &err) == SP_OK);
	SP_ASSERT(sp_tree_format(&tree, &data, &len, &err) == SP_OK);
	put("tree", "two", data, len);
	free(data);
	sp_tree_clear(&tree);
}

static void
put_safetensors(void)
{
	static const uint8_t zeros[64];
	const struct sp_tensor tensors[] = {
	    {.name = "a", .dtype = SP_F32, .rank = 2, .shape = {2, 4}, .data = zeros, .size = 32},
	    {.name = "b", .dtype = SP_BF16, .rank = 1, .shape = {8}, .data = zeros, .size = 16},
	};
	char *path = sp_xasprintf("%s/safetensors.seeds", root);
	int fd;

	SP_ASSERT(sp_file_mkdirs(path, 0755, &err) == SP_OK);
	free(path);
	path = sp_xasprintf("%s/safetensors.seeds/two", root);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	SP_ASSERT(fd >= 0 && sp_safetensors_write(fd, tensors, 2, &err) == SP_OK);
	close(fd);
	free(path);
}

/* --- what is signed ----------------------------------------------------------------------------
 */

/* An envelope, and its payload for the target of that type. */
static void
put_envelope(const char *target, const char *name, const char *envelope)
{
	struct sp_dsse dsse;

	SP_ASSERT(sp_dsse_parse((const uint8_t *)envelope, strlen(envelope), &dsse, &err) == SP_OK);
	put("dsse", name, envelope, strlen(envelope));
	put(target, name, dsse.payload, dsse.payload_len);
	sp_dsse_clear(&dsse);
}

static void
put_snapshot(const struct rig *rig)
{
	char *files[] = {(char *)(uintptr_t) "config.json"};
	struct sp_snapshot_model models[2] = {{.name = (char *)(uintptr_t) "org/name",
	    .kind = (char *)(uintptr_t) "model",
	    .version = 1,
	    .tree = {RIG_TREE},
	    .release = {RIG_OTHER},
	    .revision = sp_tree_revision(RIG_TREE),
	    .bytes = 7,
	    .files = files,
	    .file_count = 1}};
	struct sp_snapshot snapshot = {.version = 3,
	    .origin = "sallyport/enclave/host",
	    .time = RIG_TIME,
	    .models = models,
	    .count = 2};
	char *envelope;
	size_t len;

	models[1] = models[0];
	models[1].version = 2;
	models[1].revoked = 1;
	SP_ASSERT(sp_snapshot_sign(&snapshot, rig->keys[SP_ROLE_REGISTRY], &envelope, &len, &err) ==
		  SP_OK);
	put_envelope("snapshot", "two", envelope);
	free(envelope);
}

static void
put_log(const struct rig_log *log)
{
	struct sp_buf bundle = {0};

	for (size_t i = 0; i < RIG_ENTRIES; i++) {
		sp_buf_u16be(&bundle, (uint16_t)log->entries[i].len);
		sp_buf_add(&bundle, log->entries[i].data, log->entries[i].len);
	}
	put("log", "story", bundle.data, bundle.len);
	put("note", "checkpoint", log->checkpoint, strlen(log->checkpoint));
	sp_buf_free(&bundle);
}

static void
put_keys(const struct rig *rig)
{
	const struct sp_pubkey *public = sp_key_public(rig->ben);
	char *b64, *line, *vkey = sp_note_vkey(RIG_ORIGIN, public->bytes);

	put("note", "vkey", vkey, strlen(vkey));
	b64 = sp_base64_encode(public->bytes, SP_PUBKEY_LEN);
	line = sp_xasprintf("sallyport-public-key/1 operator ben %s\n", b64);
	put("key", "public", line, strlen(line));
	free(line);
	line = sp_xasprintf("sallyport-secret-key/1 operator ben %s\n", b64);
	put("key", "secret", line, strlen(line));
	free(line);
	free(b64);
	free(vkey);
}

static void
put_signed(void)
{
	const struct rig_deviation none = {0};
	struct rig rig;
	struct rig_parts parts;
	struct rig_log log;
	char *release;
	size_t len;
	json_t *bom;

	/* the keys of the target, which starts from the same draw */
	fuzz_fix_random();
	rig_open(&rig);
	rig_parts(&rig, &none, &parts);
	rig_log(rig_story, &parts, RIG_JOB, RIG_ORIGIN, rig.keys[SP_ROLE_LOG], &log);
	bom = rig_bom(&parts, NULL);
	release = rig_release(&rig, &parts, &log, bom, rig.keys[SP_ROLE_RELEASE], &len, &err);
	SP_ASSERT(release != NULL);
	put_envelope("release", "payload", release);
	put("release", "envelope", release, len);
	put_envelope("statement", "release", release);
	put_envelope("statement", "fetch", parts.text[0]);
	put_envelope("statement", "quantize", parts.text[1]);
	put_envelope("statement", "gate", parts.text[2]);
	put_envelope("candidate", "approved", parts.candidate);
	put_envelope("trust", "one", rig.trust_envelope);
	put_snapshot(&rig);
	put_log(&log);
	put_keys(&rig);
	json_decref(bom);
	free(release);
	rig_log_free(&log);
	rig_parts_free(&parts);
	rig_close(&rig);
}

int
main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	root = argv[1];
	put_signed();
	put_samples("envelope", &sallyport__envelope__descriptor);
	put_samples("operator", &sallyport__operator_request__descriptor);
	put_samples("operator", &sallyport__operator_reply__descriptor);
	put_events();
	put_diode();
	put_tree();
	put_safetensors();
	return 0;
}
