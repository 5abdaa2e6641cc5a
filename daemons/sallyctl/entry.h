/* entry.h -- an audit entry, for machines and for people. Pure. */
#ifndef CTL_ENTRY_H
#define CTL_ENTRY_H

#include "audit.pb-c.h"
#include "out.h"

json_t *ctl_entry_json(const Sallyport__Entry *entry); /* new reference */
/* Who: "quantd@bastion", "anna (uid 1000)"; malloc'd. */
char *ctl_entry_actor(const Sallyport__Entry *entry);
/* One entry as a row, and its details below each other as further rows. */
void ctl_entry_rows(const Sallyport__Entry *entry, struct ctl_out_table *table);

#endif
