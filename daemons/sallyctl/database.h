/* database.h -- a ledgerd's database, read from outside. */
#ifndef CTL_DATABASE_H
#define CTL_DATABASE_H

#include "ctl.h"

/* Verifies and prints: leaves, checkpoint, job table against the log. SP_E_EXISTS while ledgerd has
 * it open. */
enum sp_code ctl_database_verify(struct ctl *ctl, const char *path, struct sp_err *err) SP_MUST_USE;

#endif
