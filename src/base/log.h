/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - one line per event on stderr, from the level that KVTRANS_LOG names (error, warn, info,
 * debug; default warn; off). The function that finds an error logs it, once. Keys and payload are never
 * logged.
 */
#ifndef KVI_BASE_LOG_H
#define KVI_BASE_LOG_H

#include <stdbool.h>

enum kvi_log_level {
	KVI_LOG_ERROR,
	KVI_LOG_WARN,
	KVI_LOG_INFO,
	KVI_LOG_DEBUG,
};

bool kvi_log_is_on(enum kvi_log_level level);

/* id: a stable word for searching, such as "conn-lost". Thread-safe; one write(2) per line. */
void kvi_log(enum kvi_log_level level, const char *id, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
