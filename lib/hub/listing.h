/* listing.h -- a catalog's repositories and files as the JSON of the Hugging Face protocol; pure.
 * Every value returned is the caller's (json_decref). */
#ifndef SP_LISTING_H
#define SP_LISTING_H

#include "hub/catalog.h"

#include <jansson.h>

#define SP_LISTING_PAGE 1000	    /* entries in a page of a listing */
#define SP_LISTING_PAGE_EXPANDED 50 /* with what costs the real hub more to tell */

enum sp_listing_detail { SP_LISTING_NO_FILES, SP_LISTING_FILES, SP_LISTING_BLOBS };

/* huggingface_hub.ModelInfo or DatasetInfo */
json_t *sp_listing_repo(const struct sp_catalog_repo *repo,
    const struct sp_catalog_revision *revision, enum sp_listing_detail detail);
/* huggingface_hub.GitRefs */
json_t *sp_listing_refs(const struct sp_catalog_repo *repo);
/* A GitCommitInfo for each version up to this one, the newest first. */
json_t *
sp_listing_commits(const struct sp_catalog_repo *repo, const struct sp_catalog_revision *revision);
/* RepoFile or RepoFolder; NULL when there is neither. */
json_t *sp_listing_entry(const struct sp_catalog_revision *revision, const char *path, int expand);
/* Files and directories below path ("": all), in order; skips the first `cursor`, gives at most
 * `limit`. *next: the cursor of the page that follows, 0 when there is none. NULL when path is no
 * directory. */
json_t *sp_listing_tree(const struct sp_catalog_revision *revision, const char *path, int recursive,
    int expand, size_t cursor, size_t limit, size_t *next);

#endif
