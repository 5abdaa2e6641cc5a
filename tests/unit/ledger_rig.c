/* ledger_rig.c -- a ledger in a directory of its own. */
#include "ledger_rig.h"
#include "base/file.h"

#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

const struct sp_actor self = {0, 0, "ledgerd", "ledgerd@bastion", ""};

uint8_t log_pk[32], log_sk[64];

void
sign(void *ctx, const void *data, size_t len, uint8_t sig[64])
{
	(void)ctx;
	crypto_sign_detached(sig, NULL, data, len, log_sk);
}

enum sp_code
open_ledger(struct fixture *f, struct sp_err *err)
{
	struct sp_ledger_spec spec = {
	    .path = f->path, .origin = ORIGIN, .self = self, .pk = log_pk, .sign = sign};

	return sp_ledger_open(&spec, &f->ledger, err);
}

void
reopen(struct fixture *f)
{
	struct sp_err err;

	sp_ledger_close(&f->ledger);
	if (open_ledger(f, &err) != SP_OK)
		fail_msg("%s", err.msg);
}

int
setup(void **state)
{
	struct fixture *f = sp_xcalloc(1, sizeof(*f));

	snprintf(f->dir, sizeof(f->dir), "/tmp/sp-ledger-XXXXXX");
	*state = f; /* teardown frees it, whatever happens here */
	if (mkdtemp(f->dir) == NULL)
		return -1;
	f->path = sp_xasprintf("%s/ledger.db", f->dir);
	reopen(f);
	return 0;
}

int
teardown(void **state)
{
	struct fixture *f = *state;

	sp_ledger_close(&f->ledger);
	if (sp_file_remove_all(f->dir, NULL) != SP_OK)
		return -1;
	free(f->path);
	free(f);
	return 0;
}
