/*
 * hold.h -- a blob that is verified now and counts later: held meanwhile, so that nobody changes it
 * unseen, though its maker still lives and is not believed.
 *
 * Times of a file do not show that it has not changed: their clock is coarse, whoever owns a file
 * can set one of them, and a store through a writable mapping shows in none until the page is
 * written back. A hold is a read lease (fcntl(2), F_SETLEASE F_RDLCK) instead, taken before the
 * first byte is hashed. The kernel grants it only while nobody has the file open for writing, by
 * whatever name, which a shared writable mapping and a write under way do as well; it breaks it
 * before anybody opens the file for writing or truncates it, and a broken one is not granted again
 * by itself. So a lease that still stands says that what was hashed is what is there. Two things it
 * does not say are looked at beside it: that the blob's name still leads to that file, and (for
 * open(2) with O_RDONLY | O_TRUNC, which breaks no lease) that its size is what it was.
 *
 * What a lease cannot see is a page of the file that a device still writes to: a read with O_DIRECT
 * into a shared mapping that was taken away meanwhile. Who may do that (it needs MAP_SHARED) must
 * not be the one that is not believed: sp_confine_unmapped (bus/confine.h).
 *
 * On other filesystems than the local ones of hold.c nothing is held: a network's lease does not
 * bind its other clients, and overlayfs lets go of the file that is mapped.
 */
#ifndef SP_HOLD_H
#define SP_HOLD_H

#include "store/store.h"

struct sp_hold;

/* 1: stop. Asked now and then. */
typedef int sp_hold_stop_fn(void *ctx);

/* Verifies the blob and holds it. SP_E_UNSUPPORTED: the filesystem cannot, or it is another user's
 * file; SP_E_STATE: somebody has it open for writing; SP_E_CORRUPT: it has another digest. Then
 * nothing is held, and it has to be verified when it counts. The process gets SIGURG, which does
 * nothing, when a hold is broken; whoever breaks one waits until it is dropped, or the kernel's
 * lease-break-time is over. */
enum sp_code sp_hold_take(const struct sp_store *store, const char *digest, sp_hold_stop_fn *stop,
    void *ctx, struct sp_hold **out, struct sp_err *err) SP_MUST_USE;

/* 1 when the blob is what it was when it was taken; *size (may be NULL) is its length. */
int sp_hold_stands(const struct sp_hold *hold, uint64_t *size);

/* NULL is nothing. */
void sp_hold_drop(struct sp_hold **hold);

#endif
