/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key.h - the parts of kvtrans-key. It changes one key file at a time, under a lock, by putting a new file in
 * its place: who reads it meanwhile sees the one or the other.
 */
#ifndef TOOLS_KEY_H
#define TOOLS_KEY_H

#include <stdint.h>

#include "auth/key_file.h"

enum {
	KEY_OK = 0,
	KEY_FAILED = 1,
	KEY_USAGE = 2,
};

enum key_change {
	KEY_ADD_FIRST, /* a new key, before all others */
	KEY_ADD_LAST,
	KEY_MOVE_FIRST, /* the key of that id, before all others */
	KEY_DROP,	/* the key of that id */
};

/* Change the file. id: of the key that is moved or dropped; NULL where one is added. */
enum kvt_err key_change_file(const char *path, enum key_change change, const uint8_t *id,
			     struct kvt_error *error);

#endif
