/* SPDX-License-Identifier: Apache-2.0 */
/* check_auth_key_file.c - where a user's key file is, which files are taken, and making one. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../support/runner.h"
#include "auth/key_file.h"

enum { MAKERS = 8, ROUNDS = 20 };

static char home[] = "/tmp/kvtrans-key-XXXXXX";
static char path[PATH_MAX];
static struct kvt_error error;

/* A home directory that is new, and an environment that says nothing else. */
static void open_home(void)
{
	umask(022);
	ck_assert_ptr_nonnull(mkdtemp(home));
	snprintf(path, sizeof(path), "%s/.config/kvtrans/key", home);
	setenv("HOME", home, 1);
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("KVTRANS_KEY_FILE");
}

static void close_home(void)
{
	char command[PATH_MAX];
	umask(022);
	snprintf(command, sizeof(command), "rm -rf %s", home);
	ck_assert_int_eq(system(command), 0);
	strcpy(home + strlen(home) - 6, "XXXXXX");
}

static void write_file(const char *text, mode_t mode)
{
	FILE *file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	fputs(text, file);
	ck_assert_int_eq(fclose(file), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

static mode_t get_mode(const char *name)
{
	struct stat status;
	ck_assert_int_eq(stat(name, &status), 0);
	return status.st_mode & 07777;
}

/* ---- where ---- */

static void assert_found(const char *wanted, bool is_default)
{
	struct kvi_key_path found;
	ck_assert_int_eq(kvi_key_file_find(&found, &error), KVT_OK);
	ck_assert_str_eq(found.text, wanted);
	ck_assert(found.is_default == is_default);
}

START_TEST(the_environment_says_where_the_file_is)
{
	assert_found(path, true);
	setenv("XDG_CONFIG_HOME", "relative", 1);
	assert_found(path, true);
	setenv("XDG_CONFIG_HOME", "/etc/xdg", 1);
	assert_found("/etc/xdg/kvtrans/key", true);
	setenv("KVTRANS_KEY_FILE", "", 1);
	assert_found("/etc/xdg/kvtrans/key", true);
	setenv("KVTRANS_KEY_FILE", "here/key", 1);
	assert_found("here/key", false);
}
END_TEST

START_TEST(without_HOME_the_system_is_asked)
{
	struct kvi_key_path found;
	static const char *const homes[] = { NULL, "", "relative" };
	for (size_t i = 0; i < 3; i++) {
		unsetenv("HOME");
		if (homes[i] != NULL)
			setenv("HOME", homes[i], 1);
		ck_assert_int_eq(kvi_key_file_find(&found, &error), KVT_OK);
		ck_assert_int_eq(found.text[0], '/');
		ck_assert_ptr_nonnull(strstr(found.text, "/.config/kvtrans/key"));
	}
}
END_TEST

START_TEST(a_path_that_is_too_long_is_refused)
{
	static char long_home[PATH_MAX + 10];
	struct kvi_key_path found;
	memset(long_home, '/', sizeof(long_home) - 1);
	setenv("HOME", long_home, 1);
	ck_assert_int_eq(kvi_key_file_find(&found, &error), KVT_E_INVALID);
	ck_assert_str_eq(error.text, "the key file's path is too long: name a key file with "
				     "KVTRANS_KEY_FILE");
}
END_TEST

/* ---- which ---- */

START_TEST(only_what_nobody_else_can_read_is_taken)
{
	enum { SELF = 1000, OTHER = 1001, ROOT = 0 };
	static const struct {
		uid_t owner, self;
		mode_t mode;
		bool is_taken;
	} cases[] = {
		{ SELF, SELF, 0600, true },
		{ SELF, SELF, 0400, true },
		{ SELF, SELF, 0700, true },
		{ SELF, SELF, 0640, false },
		{ SELF, SELF, 0604, false },
		{ SELF, SELF, 0620, false },
		{ SELF, SELF, 0602, false },
		{ SELF, SELF, 0601, false },
		{ SELF, SELF, 0644, false },
		{ OTHER, SELF, 0600, false },
		{ OTHER, SELF, 0400, false },
		{ OTHER, ROOT, 0600, false },
		/* Kubernetes: a secret in a container whose user is not root, and with root. */
		{ ROOT, SELF, 0440, true },
		{ ROOT, SELF, 0400, true },
		{ ROOT, SELF, 0640, true },
		{ ROOT, SELF, 0644, false },
		{ ROOT, SELF, 0444, false },
		{ ROOT, SELF, 0460, false },
		{ ROOT, ROOT, 0400, true },
		{ ROOT, ROOT, 0440, true },
		{ ROOT, ROOT, 0644, false },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stat status = { .st_mode = S_IFREG | cases[i].mode,
				       .st_uid = cases[i].owner };
		const char *against = kvi_key_file_judge(&status, cases[i].self);
		ck_assert_msg((against == NULL) == cases[i].is_taken, "case %zu: %s", i,
			      against != NULL ? against : "taken");
	}
}
END_TEST

START_TEST(only_regular_files_of_little_length_are_taken)
{
	static const mode_t types[] = { S_IFDIR, S_IFIFO, S_IFCHR, S_IFBLK, S_IFSOCK };
	struct stat status = { .st_mode = S_IFREG | 0600, .st_size = KVI_KEYS_TEXT_MAX };
	ck_assert_ptr_null(kvi_key_file_judge(&status, 0));
	status.st_size++;
	ck_assert_str_eq(kvi_key_file_judge(&status, 0), "is too large to be a key file");
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		status = (struct stat){ .st_mode = types[i] | 0600 };
		ck_assert_ptr_nonnull(kvi_key_file_judge(&status, 0));
	}
}
END_TEST

START_TEST(a_refusal_says_which_file_and_never_what_is_in_it)
{
	static const char secret[] = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE!";
	struct kvi_keys *keys = NULL;
	ck_assert_int_eq(kvi_key_file_make(path, NULL, &error), KVT_OK);
	write_file(secret, 0600);
	ck_assert_int_eq(kvi_key_file_read(path, &keys, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, path));
	ck_assert_ptr_nonnull(strstr(error.text, "line 1 is neither a key nor a comment"));
	ck_assert_ptr_null(strstr(error.text, "AQE"));
	write_file(secret, 0644);
	ck_assert_int_eq(kvi_key_file_read(path, &keys, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "is open to others than its owner: chmod 600 it"));
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(kvi_key_file_read(path, &keys, &error), KVT_E_INVALID);
	ck_assert_int_eq(error.provider_errno, ENOENT);
	ck_assert_ptr_null(keys);
}
END_TEST

START_TEST(what_is_no_file_is_refused_and_stops_nobody)
{
	struct kvi_keys *keys = NULL;
	char target[PATH_MAX];
	snprintf(target, sizeof(target), "%s/real", home);
	ck_assert_int_eq(kvi_key_file_make(path, NULL, &error), KVT_OK);

	ck_assert_int_eq(rename(path, target), 0); /* a link to a good file is good */
	ck_assert_int_eq(symlink(target, path), 0);
	ck_assert_int_eq(kvi_key_file_read(path, &keys, &error), KVT_OK);
	kvi_keys_close(keys);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink(path, path), 0);
	ck_assert_int_eq(kvi_key_file_read(path, &keys, &error), KVT_E_INVALID);
	ck_assert_int_eq(error.provider_errno, ELOOP);
	ck_assert_int_eq(kvi_key_file_open(&keys, &error), KVT_E_INVALID);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(kvi_key_file_read(path, &keys, &error), KVT_E_INVALID);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(kvi_key_file_open(&keys, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "is a directory"));
}
END_TEST

/* ---- making ---- */

START_TEST(a_first_use_makes_a_file_that_is_its_users_alone)
{
	struct kvi_keys *keys = NULL, *again = NULL;
	char directory[PATH_MAX];
	umask(0);
	ck_assert_int_eq(kvi_key_file_open(&keys, &error), KVT_OK);
	ck_assert_uint_eq(keys->count, 1);
	ck_assert_int_eq(get_mode(path), 0600);
	snprintf(directory, sizeof(directory), "%s/.config/kvtrans", home);
	ck_assert_int_eq(get_mode(directory), 0700);
	snprintf(directory, sizeof(directory), "%s/.config", home);
	ck_assert_int_eq(get_mode(directory), 0700);

	ck_assert_int_eq(kvi_key_file_open(&again, &error), KVT_OK);
	ck_assert_mem_eq(&keys->keys[0], &again->keys[0], sizeof(keys->keys[0]));
	kvi_keys_close(keys);
	kvi_keys_close(again);
}
END_TEST

START_TEST(a_strange_umask_makes_no_file_that_cannot_be_read)
{
	struct kvi_keys *keys = NULL;
	char directory[PATH_MAX];
	snprintf(directory, sizeof(directory), "%s/.config", home);
	ck_assert_int_eq(mkdir(directory, 0700), 0);
	snprintf(directory, sizeof(directory), "%s/.config/kvtrans", home);
	ck_assert_int_eq(mkdir(directory, 0700), 0);
	umask(0777);
	ck_assert_int_eq(kvi_key_file_open(&keys, &error), KVT_OK);
	ck_assert_int_eq(get_mode(path), 0600);
	kvi_keys_close(keys);
}
END_TEST

START_TEST(a_file_that_somebody_named_is_not_made)
{
	struct kvi_keys *keys = NULL;
	setenv("KVTRANS_KEY_FILE", path, 1);
	ck_assert_int_eq(kvi_key_file_open(&keys, &error), KVT_E_INVALID);
	ck_assert_int_eq(error.provider_errno, ENOENT);
	ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_home_that_is_not_there_is_not_made)
{
	struct kvi_keys *keys = NULL;
	setenv("HOME", "/proc/nosuch", 1);
	ck_assert_int_eq(kvi_key_file_open(&keys, &error), KVT_E_INVALID);
	ck_assert_ptr_nonnull(strstr(error.text, "or name a key file with KVTRANS_KEY_FILE"));
}
END_TEST

static size_t count_files(const char *directory)
{
	size_t count = 0;
	DIR *stream = opendir(directory);
	ck_assert_ptr_nonnull(stream);
	for (struct dirent *entry = readdir(stream); entry != NULL; entry = readdir(stream))
		count += entry->d_name[0] != '.';
	closedir(stream);
	return count;
}

/* Opens the user's keys as soon as the pipe is closed, and writes the id that it got. */
static void make_in_child(int start, int told)
{
	struct kvi_keys *keys = NULL;
	char byte;
	ssize_t got = read(start, &byte, 1);
	(void)got;
	if (kvi_key_file_open(&keys, NULL) != KVT_OK ||
	    write(told, keys->keys[0].id, KVI_KEY_ID_LEN) != KVI_KEY_ID_LEN)
		_exit(1);
	_exit(0);
}

START_TEST(many_that_make_it_at_once_get_one_key)
{
	char directory[PATH_MAX];
	snprintf(directory, sizeof(directory), "%s/.config/kvtrans", home);
	for (int round = 0; round < ROUNDS; round++) {
		int start[2], told[2], status;
		uint8_t ids[MAKERS][KVI_KEY_ID_LEN];
		ck_assert(pipe(start) == 0 && pipe(told) == 0);
		for (int i = 0; i < MAKERS; i++) {
			if (fork() != 0)
				continue;
			close(start[1]);
			make_in_child(start[0], told[1]);
		}
		close(start[0]);
		close(start[1]);
		for (int i = 0; i < MAKERS; i++) {
			ck_assert_int_gt(wait(&status), 0);
			ck_assert_int_eq(status, 0);
			ck_assert_int_eq(read(told[0], ids[i], KVI_KEY_ID_LEN), KVI_KEY_ID_LEN);
			ck_assert_mem_eq(ids[i], ids[0], KVI_KEY_ID_LEN);
		}
		close(told[0]);
		close(told[1]);
		ck_assert_uint_eq(count_files(directory), 1);
		ck_assert_int_eq(unlink(path), 0);
	}
}
END_TEST

START_TEST(making_leaves_a_file_that_is_there_alone)
{
	bool was_made = false;
	ck_assert_int_eq(kvi_key_file_make(path, &was_made, &error), KVT_OK);
	ck_assert(was_made);
	write_file("what it has is its owner's\n", 0644);
	ck_assert_int_eq(kvi_key_file_make(path, &was_made, &error), KVT_OK);
	ck_assert(!was_made);
	ck_assert_int_eq(get_mode(path), 0644);
}
END_TEST

int main(void)
{
	TCase *tests = tcase_create("key_file");
	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, open_home, close_home);
	tcase_add_test(tests, the_environment_says_where_the_file_is);
	tcase_add_test(tests, without_HOME_the_system_is_asked);
	tcase_add_test(tests, a_path_that_is_too_long_is_refused);
	tcase_add_test(tests, only_what_nobody_else_can_read_is_taken);
	tcase_add_test(tests, only_regular_files_of_little_length_are_taken);
	tcase_add_test(tests, a_refusal_says_which_file_and_never_what_is_in_it);
	tcase_add_test(tests, what_is_no_file_is_refused_and_stops_nobody);
	tcase_add_test(tests, a_first_use_makes_a_file_that_is_its_users_alone);
	tcase_add_test(tests, a_strange_umask_makes_no_file_that_cannot_be_read);
	tcase_add_test(tests, a_file_that_somebody_named_is_not_made);
	tcase_add_test(tests, a_home_that_is_not_there_is_not_made);
	tcase_add_test(tests, many_that_make_it_at_once_get_one_key);
	tcase_add_test(tests, making_leaves_a_file_that_is_there_alone);
	return run_tests("auth key_file", tests);
}
