/* SPDX-License-Identifier: Apache-2.0 */
/*
 * key_change.c - another text for a key file. Lines that have nothing to do with the change stay as they are,
 * comments among them.
 */
#include "key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include <sodium.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"

#define LOCK_WAIT_MAX (10 * KVI_SECOND)
#define LOCK_WAIT (20 * KVI_MS)

/* All that is secret, in memory of libsodium's. */
struct workspace {
	struct kvi_keys keys;
	struct kvi_key_line line, found;
	struct kvi_key made;
	char old_text[KVI_KEYS_TEXT_MAX + 1];
	char new_text[KVI_KEYS_TEXT_MAX + 1];
	char made_text[KVI_KEY_TEXT_LEN];
};

static enum kvt_err fail_at(struct kvt_error *error, const char *doing, const char *path)
{
	int code = errno;
	return kvi_fail(error, KVT_E_INVALID, code, "cannot %s %.130s: %s", doing, path,
			strerror(code));
}

/* ---- the new text ---- */

static void put_made(struct kvi_writer *writer, struct workspace *work)
{
	kvi_key_print(&work->made, work->made_text);
	kvi_write_bytes(writer, work->made_text, KVI_KEY_TEXT_LEN - 1);
	kvi_write_u8(writer, '\n');
}

/* A last line without its newline gets one, as another may follow. */
static void put_line(struct kvi_writer *writer, const struct kvi_key_line *line)
{
	kvi_write_bytes(writer, line->start, line->len);
	if (line->len > 0 && line->start[line->len - 1] != '\n')
		kvi_write_u8(writer, '\n');
}

static bool is_of(const struct kvi_key_line *line, const uint8_t *id)
{
	return line->has_key && id != NULL && memcmp(line->key.id, id, KVI_KEY_ID_LEN) == 0;
}

static void put_key(struct kvi_writer *writer, struct workspace *work, size_t len,
		    const uint8_t *id)
{
	work->found = (struct kvi_key_line){ .next = work->old_text, .left = len };
	while (kvi_key_line_next(&work->found)) {
		if (is_of(&work->found, id))
			put_line(writer, &work->found);
	}
}

/* Returns the length, 0 when it is too long. */
static size_t make_text(struct workspace *work, size_t len, enum key_change change,
			const uint8_t *id)
{
	struct kvi_writer writer = kvi_writer_init(work->new_text, KVI_KEYS_TEXT_MAX);
	struct kvi_key_line *line = &work->line;
	bool is_first = true;
	*line = (struct kvi_key_line){ .next = work->old_text, .left = len };
	while (kvi_key_line_next(line)) {
		/* Before all keys is behind the comments on top. */
		if (line->has_key && is_first && change == KEY_ADD_FIRST)
			put_made(&writer, work);
		if (line->has_key && is_first && change == KEY_MOVE_FIRST)
			put_key(&writer, work, len, id);
		is_first &= !line->has_key;
		if (!is_of(line, id))
			put_line(&writer, line);
	}
	if (change == KEY_ADD_LAST)
		put_made(&writer, work);
	return writer.bad ? 0 : kvi_writer_get_len(&writer);
}

static bool has_id(const struct kvi_keys *keys, const uint8_t *id)
{
	for (size_t i = 0; i < keys->count; i++) {
		if (memcmp(keys->keys[i].id, id, KVI_KEY_ID_LEN) == 0)
			return true;
	}
	return false;
}

static enum kvt_err change_text(struct workspace *work, size_t *len, enum key_change change,
				const uint8_t *id, struct kvt_error *error)
{
	enum kvt_err err = kvi_keys_parse(work->old_text, *len, &work->keys, error);
	if (err != KVT_OK)
		return err;
	if (id != NULL && !has_id(&work->keys, id))
		return kvi_fail(error, KVT_E_INVALID, 0, "no key with that id in it");
	if (change == KEY_DROP && work->keys.count == 1)
		return kvi_fail(error, KVT_E_INVALID, 0,
				"its only key is not dropped: remove the file instead");
	if (id == NULL)
		kvi_key_make(&work->made);
	*len = make_text(work, *len, change, id);
	if (*len == 0)
		return kvi_fail(error, KVT_E_INVALID, 0, "too long with one key more");
	/* What is written is read first: nobody is left with a file that no engine takes. */
	return kvi_keys_parse(work->new_text, *len, &work->keys, error);
}

/* ---- the file ---- */

/*
 * Open the file and lock it. Who had the lock before may have put another in its place: then that one is ours to
 * lock. Opened for writing, because NFS locks nothing else alone; nothing is written.
 */
static int open_locked(const char *path, struct kvt_error *error)
{
	static const struct timespec pause = { .tv_nsec = LOCK_WAIT };
	int64_t deadline = kvi_deadline_after(LOCK_WAIT_MAX);
	while (true) {
		struct stat held, named;
		int fd = open(path, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd < 0) {
			fail_at(error, "change key file", path);
			return -1;
		}
		if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
			if (fstat(fd, &held) == 0 && stat(path, &named) == 0 &&
			    held.st_ino == named.st_ino && held.st_dev == named.st_dev)
				return fd;
		} else if (errno != EWOULDBLOCK) {
			fail_at(error, "lock key file", path);
			close(fd);
			return -1;
		}
		close(fd);
		if (kvi_clock_now() >= deadline) {
			kvi_fail(error, KVT_E_TIMEOUT, 0,
				 "another process has kept %.130s locked for 10 s", path);
			return -1;
		}
		nanosleep(&pause, NULL);
	}
}

static enum kvt_err replace_file(const char *path, const char *text, size_t len,
				 struct kvt_error *error)
{
	char temporary_path[PATH_MAX];
	enum kvt_err err = kvi_key_file_store(path, text, len, temporary_path, error);
	if (err != KVT_OK)
		return err;
	if (rename(temporary_path, path) != 0) {
		err = fail_at(error, "replace", path);
		unlink(temporary_path);
	}
	return err;
}

enum kvt_err key_change_file(const char *path, enum key_change change, const uint8_t *id,
			     struct kvt_error *error)
{
	/* A symbolic link stays, and what it leads to is replaced. */
	char real_path[PATH_MAX];
	if (realpath(path, real_path) == NULL)
		return fail_at(error, "change key file", path);
	struct workspace *work = sodium_init() < 0 ? NULL : sodium_malloc(sizeof(*work));
	if (work == NULL)
		return kvi_fail(error, KVT_E_NO_MEMORY, 0, "no memory for keys");

	size_t len = 0;
	enum kvt_err err = KVT_E_INVALID;
	int fd = open_locked(real_path, error);
	if (fd < 0)
		goto out;
	err = kvi_key_file_load(fd, path, work->old_text, &len, error);
	if (err == KVT_OK) {
		struct kvt_error cause;
		err = change_text(work, &len, change, id, &cause);
		if (err != KVT_OK)
			kvi_fail(error, err, 0, "key file %.130s: %s", path, cause.text);
	}
	if (err == KVT_OK)
		err = replace_file(real_path, work->new_text, len, error);
	close(fd); /* and unlock */
out:
	sodium_free(work);
	return err;
}
