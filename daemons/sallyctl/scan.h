/* scan.h -- the tree that a directory holds, by hashing every file in it. */
#ifndef CTL_SCAN_H
#define CTL_SCAN_H

#include "store/tree.h"

/*
 * Adds every regular file below dir to tree (zero-initialised; free with sp_tree_clear). Names in
 * skip (NULL-terminated) are left out at the top. A symlink, device, socket or bad name is
 * SP_E_INVALID: such a thing is in no tree. progress may be NULL; its total is 0.
 */
enum sp_code ctl_scan(const char *dir, const char *const *skip, struct sp_tree *tree,
    sp_tree_progress_fn *progress, void *ctx, struct sp_err *err) SP_MUST_USE;

#endif
