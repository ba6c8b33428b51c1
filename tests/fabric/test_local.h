/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_local.h - tests of the fabric between processes of one host, besides those that all fabrics keep.
 */
#ifndef TEST_LOCAL_H
#define TEST_LOCAL_H

#include "bed.h"

Suite *make_local_suite(void);

/* From now on the kernel lets this process read no other's memory. */
void forbid_pulling(void);

#endif
