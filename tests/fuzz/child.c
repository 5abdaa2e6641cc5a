/* child.c -- what a child process says to its daemon, frame by frame, and the task it is given. */
#include "bus/envelope.h"
#include "bus/outcome.h"
#include "bus/result.h"
#include "bus/spawn.h"
#include "fuzz.h"

static void
take(const Sallyport__ChildEvent *event)
{
	struct sp_outcome outcome = {0};
	struct sp_result result;
	struct sp_err err;
	enum sp_code code = SP_OK;

	if (event->event_case == SALLYPORT__CHILD_EVENT__EVENT_DONE)
		sp_result_take_done(&outcome, event->done);
	else if (event->event_case == SALLYPORT__CHILD_EVENT__EVENT_FAILURE)
		code = sp_result_take_failure(&outcome, event->failure, &err);
	else
		return;
	SP_ASSERT((code == SP_OK) == (event->event_case == SALLYPORT__CHILD_EVENT__EVENT_DONE));
	sp_result_build(&result, code, &err, &outcome);
	sp_result_clear(&result);
	sp_outcome_clear(&outcome);
}

static void
check(const uint8_t *data, size_t len)
{
	Sallyport__ChildEvent *event;
	size_t frame_len, body_len;
	struct sp_err err;
	uint8_t *frame;

	if (sp_event_unpack(data, len, &event, &err) != SP_OK) {
		SP_ASSERT(event == NULL && err.msg[0] != '\0');
		return;
	}
	take(event);
	SP_ASSERT(sp_event_frame(event, &frame, &frame_len, &err) == SP_OK);
	SP_ASSERT(sp_spawn_split(frame, frame_len, &body_len) == 1 && body_len + 4 == frame_len);
	free(frame);
	sallyport__child_event__free_unpacked(event, NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	Sallyport__Task *task;
	struct sp_err err;
	size_t body_len;

	if (sp_task_unpack(data, len, &task, &err) == SP_OK)
		sallyport__task__free_unpacked(task, NULL);
	while (sp_spawn_split(data, len, &body_len) == 1) {
		SP_ASSERT(body_len > 0 && body_len <= len - 4);
		check(data + 4, body_len);
		data += 4 + body_len;
		len -= 4 + body_len;
	}
	return 0;
}
