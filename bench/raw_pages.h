/* SPDX-License-Identifier: Apache-2.0 */
/*
 * raw_pages.h - paged transfers by libfabric alone: one RMA operation a block, each of them
 * delivered when it counts.
 */
#ifndef RAW_PAGES_H
#define RAW_PAGES_H

#include "raw_paged.h"

extern const struct raw_path raw_pages_path;

#endif
