/* limits.h -- every maximum that more than one file relies on. */
#ifndef SP_LIMITS_H
#define SP_LIMITS_H

#define SP_PATH_MAX 1024	       /* bytes in a path inside a tree, without NUL (design 4) */
#define SP_TREE_FILES_MAX 100000       /* files in a tree */
#define SP_TREE_BYTES_MAX (128u << 20) /* bytes of a tree blob: 100,000 lines of ~1,100 bytes */
#define SP_ENTRY_MAX 65535	       /* bytes of an audit entry (tlog-tiles u16be length) */
#define SP_MESSAGE_MAX (16u << 20)     /* bytes of what ledgerd says, and of published content */
#define SP_REQUEST_MAX (1u << 20)      /* bytes of one message to ledgerd: workers, operators */
#define SP_JSON_MAX (16u << 20)	       /* bytes of a JSON document from outside */
#define SP_TOKENIZER_MAX (32u << 20)   /* of a tokenizer.json: Llama 3.1's has 17 MB */
#define SP_NAME_MAX 256		       /* bytes of a model, profile, key or host name */
#define SP_SOURCE_MAX 1024	       /* bytes of a SOURCE as submitted */
#define SP_DIGEST_LEN 32	       /* SHA-256 */
#define SP_HEX_LEN 64		       /* SHA-256 in hex, without NUL */
#define SP_JOB_ID_LEN 32	       /* 128 random bits in hex, without NUL */

_Static_assert(SP_HEX_LEN == 2 * SP_DIGEST_LEN, "hex doubles");

#endif
