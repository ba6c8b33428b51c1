/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_gather.h - paged transfers over one TCP connection whose sender gathers its blocks and whose
 * receiver scatters them.
 */
#ifndef RAW_GATHER_H
#define RAW_GATHER_H

#include "raw_paged.h"

extern const struct raw_path raw_gather_path;

#endif
