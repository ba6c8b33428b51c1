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

#endif
