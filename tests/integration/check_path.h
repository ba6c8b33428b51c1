/* SPDX-License-Identifier: Apache-2.0 */
/* check_path.h - what the tests of the path share. */
#ifndef CHECK_PATH_H
#define CHECK_PATH_H

#include "integration/bed.h"

/* An engine with that provider; NULL: the default. */
struct kvt_engine_config make_path_config(const char *provider);

/* The connection has this path, and a reason that has this word in it; NULL: none. */
void expect_path(const struct kvt_conn *conn, const char *path, const char *word);

/* test_path_raw.c */
void add_raw_path_tests(TCase *tests);

#endif
