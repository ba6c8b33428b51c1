/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error.h - filling struct kvt_error. The public getters over KVT_ERROR_MAP live in error.c too.
 */
#ifndef KVI_BASE_ERROR_H
#define KVI_BASE_ERROR_H

#include <kvtrans.h>

/* Fill error (may be NULL) and return code, so that a function can end with `return kvi_fail(...)`.
 * provider_errno: positive errno of the system or provider, 0 when there is none. */
enum kvt_err kvi_fail(struct kvt_error *error, enum kvt_err code, int provider_errno,
		      const char *format, ...) __attribute__((format(printf, 4, 5)));

/* An error as it is kept by what there is a lot of, and seldom fails. All zero: there is none. */
struct kvi_kept_error {
	enum kvt_err code;
	int provider_errno;
	char *text; /* NULL: that of the code */
};

/* Keep an error in the place of another. Without memory its text is that of the code. */
void kvi_error_keep(struct kvi_kept_error *kept, enum kvt_err code, int provider_errno,
		    const char *text);
/* There is none, and no memory is used. */
void kvi_error_drop(struct kvi_kept_error *kept);
/* "" when there is none. */
const char *kvi_error_get_text(const struct kvi_kept_error *kept);

#endif
