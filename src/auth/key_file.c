/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key_file.c - finding, judging, reading and making key files. What is read passes through memory of
 * libsodium's only, and never through stdio's buffers.
 */
#define _GNU_SOURCE 1 /* secure_getenv, renameat2 */

#include "auth/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"

enum {
	READ_ATTEMPTS = 3, /* others replace the file, and NFS remembers for a while what is gone */
	PASSWD_TEXT_MAX = 1 << 20,
};

static const char name_a_file[] = "name a key file with KVTRANS_KEY_FILE";

/* The end of a path that is too long for an error: the file's name tells most. */
static const char *show(const char *path)
{
	enum { SHOWN = 130 };
	size_t len = strlen(path);
	return len > SHOWN ? path + len - SHOWN : path;
}

static enum kvt_err fail_at(struct kvt_error *error, const char *doing, const char *path)
{
	int code = errno;
	return kvi_fail(error, code == ENOMEM ? KVT_E_NO_MEMORY : KVT_E_INVALID, code,
			"cannot %s %s: %s", doing, show(path), strerror(code));
}

/* ---- where it is ---- */

static bool is_absolute(const char *path)
{
	return path != NULL && path[0] == '/';
}

/* The home directory that the system knows; false when it knows none. */
static bool find_home(char home[PATH_MAX])
{
	bool found = false;
	int err = ERANGE;
	for (size_t len = 1024; err == ERANGE && len <= PASSWD_TEXT_MAX; len *= 4) {
		struct passwd entry, *result = NULL;
		char *text = kvi_alloc(len);
		if (text == NULL)
			return false;
		err = getpwuid_r(geteuid(), &entry, text, len, &result);
		if (err == 0 && result != NULL && is_absolute(result->pw_dir))
			found = snprintf(home, PATH_MAX, "%s", result->pw_dir) < PATH_MAX;
		kvi_free(text);
	}
	return found;
}

enum kvt_err kvi_key_file_find(struct kvi_key_path *path, struct kvt_error *error)
{
	/* Programs with rights that their user does not have are not led by his environment. */
	const char *named = secure_getenv("KVTRANS_KEY_FILE");
	const char *config = secure_getenv("XDG_CONFIG_HOME");
	const char *home = secure_getenv("HOME");
	char system_home[PATH_MAX];
	int len;
	path->is_default = named == NULL || named[0] == '\0';
	if (!path->is_default) {
		len = snprintf(path->text, sizeof(path->text), "%s", named);
	} else if (is_absolute(config)) {
		len = snprintf(path->text, sizeof(path->text), "%s/kvtrans/key", config);
	} else if (is_absolute(home) || find_home(system_home)) {
		len = snprintf(path->text, sizeof(path->text), "%s/.config/kvtrans/key",
			       is_absolute(home) ? home : system_home);
	} else {
		return kvi_fail(error, KVT_E_INVALID, 0,
				"user %lu has no home directory for a key: set HOME, or %s",
				(unsigned long)geteuid(), name_a_file);
	}
	if (len < 0 || (size_t)len >= sizeof(path->text))
		return kvi_fail(error, KVT_E_INVALID, ENAMETOOLONG,
				"the key file's path is too long: %s", name_a_file);
	return KVT_OK;
}

/* ---- reading ---- */

const char *kvi_key_file_judge(const struct stat *status, uid_t self)
{
	mode_t others = S_IRWXO | (status->st_uid == 0 ? S_IWGRP | S_IXGRP : S_IRWXG);
	if (S_ISDIR(status->st_mode))
		return "is a directory";
	if (!S_ISREG(status->st_mode))
		return "is no regular file";
	if (status->st_uid != self && status->st_uid != 0)
		return "belongs to another user";
	if ((status->st_mode & others) != 0)
		return "is open to others than its owner: chmod 600 it (in a Kubernetes volume, "
		       "defaultMode: 0400)";
	if (status->st_size > KVI_KEYS_TEXT_MAX)
		return "is too large to be a key file";
	return NULL;
}

enum kvt_err kvi_key_file_load(int fd, const char *path, char *text, size_t *len,
			       struct kvt_error *error)
{
	struct stat status;
	if (fstat(fd, &status) != 0)
		return fail_at(error, "look at", path);
	const char *against = kvi_key_file_judge(&status, geteuid());
	if (against != NULL)
		return kvi_fail(error, KVT_E_INVALID, 0, "key file %s %s", show(path), against);

	size_t filled = 0;
	while (filled <= KVI_KEYS_TEXT_MAX) {
		ssize_t got = read(fd, text + filled, KVI_KEYS_TEXT_MAX + 1 - filled);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return fail_at(error, "read", path);
		if (got == 0)
			break;
		filled += (size_t)got;
	}
	*len = filled; /* one that grew is told as too long when it is parsed */
	return KVT_OK;
}

static enum kvt_err load_path(const char *path, char *text, size_t *len, struct kvt_error *error)
{
	/* A FIFO in its place must not stop us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return fail_at(error, "open key file", path);
	enum kvt_err err = kvi_key_file_load(fd, path, text, len, error);
	close(fd);
	return err;
}

static enum kvt_err read_keys(const char *path, char *text, struct kvi_keys *keys,
			      struct kvt_error *error)
{
	size_t len = 0;
	struct kvt_error cause;
	enum kvt_err err = load_path(path, text, &len, error);
	if (err != KVT_OK)
		return err;
	err = kvi_keys_parse(text, len, keys, &cause);
	if (err != KVT_OK)
		kvi_fail(error, err, 0, "key file %s: %s", show(path), cause.text);
	return err;
}

enum kvt_err kvi_key_file_read(const char *path, struct kvi_keys **keys, struct kvt_error *error)
{
	enum kvt_err err = KVT_E_NO_MEMORY;
	struct kvt_error cause = { .code = KVT_OK };
	struct kvi_keys *made = kvi_keys_alloc();
	char *text = made != NULL ? sodium_malloc(KVI_KEYS_TEXT_MAX + 1) : NULL;
	if (text == NULL) {
		kvi_fail(error, err, 0, "no memory for the keys of %s", show(path));
		goto out;
	}
	for (int i = 0; i < READ_ATTEMPTS; i++) {
		err = read_keys(path, text, made, &cause);
		if (err == KVT_OK || cause.provider_errno != ESTALE)
			break;
	}
	if (err != KVT_OK) {
		kvi_fail(error, err, cause.provider_errno, "%s", cause.text);
		goto out;
	}
	kvi_keys_seal(made);
	*keys = made;
	made = NULL;
out:
	sodium_free(text); /* which wipes it */
	kvi_keys_close(made);
	return err;
}

/* ---- making ---- */

/* The directory that path is in, and the one above: so far a user's home need not have been used. */
static enum kvt_err make_directory(const char *path, struct kvt_error *error)
{
	char parent[PATH_MAX], above[PATH_MAX];
	snprintf(parent, sizeof(parent), "%s", path);
	char *slash = strrchr(parent, '/');
	if (slash == NULL || slash == parent)
		return KVT_OK;
	*slash = '\0';
	if (mkdir(parent, S_IRWXU) == 0 || errno == EEXIST)
		return KVT_OK;
	snprintf(above, sizeof(above), "%s", parent);
	slash = strrchr(above, '/');
	if (errno != ENOENT || slash == NULL || slash == above)
		return fail_at(error, "make directory", parent);
	*slash = '\0';
	if (mkdir(above, S_IRWXU) != 0 && errno != EEXIST)
		return fail_at(error, "make directory", above);
	if (mkdir(parent, S_IRWXU) != 0 && errno != EEXIST)
		return fail_at(error, "make directory", parent);
	return KVT_OK;
}

static bool write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t put = write(fd, text, len);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return false;
		text += put;
		len -= (size_t)put;
	}
	return true;
}

enum kvt_err kvi_key_file_store(const char *path, const char *text, size_t len,
				char temporary_path[PATH_MAX], struct kvt_error *error)
{
	uint8_t number[8];
	char name[2 * sizeof(number) + 1];
	randombytes_buf(number, sizeof(number));
	sodium_bin2hex(name, sizeof(name), number, sizeof(number));
	if (snprintf(temporary_path, PATH_MAX, "%s.%s", path, name) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		return fail_at(error, "make", path);
	}
	int fd = open(temporary_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
	if (fd < 0)
		return fail_at(error, "make", temporary_path);

	/* Not less than that either, whatever the umask. On the disk before it has its name: no crash leaves
	 * an empty key file. */
	bool is_good = fchmod(fd, S_IRUSR | S_IWUSR) == 0 && write_all(fd, text, len) &&
		       fsync(fd) == 0;
	if (close(fd) == 0 && is_good)
		return KVT_OK;
	enum kvt_err err = fail_at(error, "write", temporary_path);
	unlink(temporary_path);
	return err;
}

/* Give the file its name, unless the name is taken: EEXIST. link() is one step on NFS, too. */
static int name_file(const char *temporary_path, const char *path)
{
	if (link(temporary_path, path) == 0)
		return 0;
	bool has_no_links = errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS ||
			    errno == EMLINK;
	if (!has_no_links)
		return -1;
	return renameat2(AT_FDCWD, temporary_path, AT_FDCWD, path, RENAME_NOREPLACE);
}

static enum kvt_err make_file(const char *path, const char *text, size_t len, bool *was_made,
			      struct kvt_error *error)
{
	char temporary_path[PATH_MAX];
	enum kvt_err err = kvi_key_file_store(path, text, len, temporary_path, error);
	if (err != KVT_OK)
		return err;

	bool is_mine = name_file(temporary_path, path) == 0;
	if (!is_mine && errno != EEXIST)
		err = fail_at(error, "make key file", path);
	unlink(temporary_path);
	if (is_mine)
		kvi_log(KVI_LOG_INFO, "key-made", "made %s", path);
	if (err == KVT_OK && was_made != NULL)
		*was_made = is_mine;
	return err;
}

enum kvt_err kvi_key_file_make(const char *path, bool *was_made, struct kvt_error *error)
{
	enum { COMMENT_LEN = 128 };
	static const char comment[] = "# KVTrans: who has this key is let in. man kvtrans-key\n";
	_Static_assert(sizeof(comment) <= COMMENT_LEN, "it fits");

	enum kvt_err err = make_directory(path, error);
	if (err != KVT_OK)
		return err;
	struct {
		struct kvi_key key;
		char line[KVI_KEY_TEXT_LEN];
		char text[COMMENT_LEN + KVI_KEY_TEXT_LEN];
	} *secrets = sodium_init() < 0 ? NULL : sodium_malloc(sizeof(*secrets));
	if (secrets == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for a key");
	kvi_key_make(&secrets->key);
	kvi_key_print(&secrets->key, secrets->line);
	int len = snprintf(secrets->text, sizeof(secrets->text), "%s%s\n", comment, secrets->line);
	err = make_file(path, secrets->text, (size_t)len, was_made, error);
	sodium_free(secrets);
	return err;
}

enum kvt_err kvi_key_file_open(struct kvi_keys **keys, struct kvt_error *error)
{
	struct kvi_key_path path;
	struct kvt_error cause;
	enum kvt_err err = kvi_key_file_find(&path, error);
	if (err != KVT_OK)
		return err;

	for (int i = 0; i < READ_ATTEMPTS; i++) {
		err = kvi_key_file_read(path.text, keys, &cause);
		if (err == KVT_OK || !path.is_default || cause.provider_errno != ENOENT)
			break;
		err = kvi_key_file_make(path.text, NULL, &cause);
		if (err != KVT_OK) {
			kvi_fail(&cause, err, cause.provider_errno, "%s; or %s", cause.text,
				 name_a_file);
			break;
		}
	}
	if (err != KVT_OK)
		kvi_fail(error, err, cause.provider_errno, "%s", cause.text);
	return err;
}
