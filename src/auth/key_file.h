/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key_file.h - the file that a user's keys are in.
 *
 * It is the one that KVTRANS_KEY_FILE names, which must be there; else kvtrans/key in $XDG_CONFIG_HOME or
 * ~/.config, which is made on first use. So the processes of one user on one host, or on hosts with one home
 * directory, share a key and need no setting.
 *
 * A key that others can read is none, so a file is taken only when
 * - it is a regular file, whatever symbolic links lead to it (Kubernetes mounts secrets as such),
 * - it belongs to this process's user, or to root, who can read and replace all files anyway,
 * - others may do nothing with it, and neither may its group. But what root owns its group may read: so root
 *   hands a key to a group, and so Kubernetes hands a secret to a container's user (defaultMode: 0400, to which
 *   fsGroup adds the group's right). Everybody of that group is let in.
 * The directory does not matter: who can write there can put no file in the place that passes, but one of this
 * user's own.
 */
#ifndef KVI_AUTH_KEY_FILE_H
#define KVI_AUTH_KEY_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "auth/keys.h"

struct kvi_key_path {
	char text[PATH_MAX];
	bool is_default; /* nobody named it, so it may be made */
};

/* KVT_E_INVALID: the user has no home directory, or the path is too long; the error says what to set. */
enum kvt_err kvi_key_file_find(struct kvi_key_path *path, struct kvt_error *error);

/* NULL, or what is against a file with this status: "may be read by ...". self: the user of this process. */
const char *kvi_key_file_judge(const struct stat *status, uid_t self);

/* The keys of a file. KVT_E_INVALID, with provider_errno ENOENT when there is none; KVT_E_NO_MEMORY. */
enum kvt_err kvi_key_file_read(const char *path, struct kvi_keys **keys, struct kvt_error *error);

/*
 * Make a file with one new key, 0600, and its directory, 0700, unless there is one already (*was_made tells;
 * may be NULL). Nobody ever sees part of it; of many who make it at once, on whichever host, one does.
 */
enum kvt_err kvi_key_file_make(const char *path, bool *was_made, struct kvt_error *error);

/* The user's keys: find the file, make it when it is the default and is not there, read it. */
enum kvt_err kvi_key_file_open(struct kvi_keys **keys, struct kvt_error *error);

/* ---- for kvtrans-key, which changes files ---- */

/* Check and read a file that is open. text has KVI_KEYS_TEXT_MAX + 1 bytes, to be wiped also after a failure. */
enum kvt_err kvi_key_file_load(int fd, const char *path, char *text, size_t *len,
			       struct kvt_error *error);

/* Write text to a new file beside path, 0600, and on to the disk; its name is temporary_path's. */
enum kvt_err kvi_key_file_store(const char *path, const char *text, size_t len,
				char temporary_path[PATH_MAX], struct kvt_error *error);

#endif
