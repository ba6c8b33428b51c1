/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvtrans_key.c - the program kvtrans-key: makes, shows, checks and rotates key files. It prints a secret when
 * it is asked to, and then on standard output only.
 */
#include "key.h"

#include <argp.h>
#include <config.h>
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

struct arguments {
	const char *command;
	const char *file;
	bool with_secrets;
	bool adds_last;
	const char *first;
	const char *drop;
};

static const struct argp_option option_table[] = {
	{ "file", 'f', "FILE", 0, "this key file; default: see below", 0 },
	{ "secret", 's', NULL, 0, "show: print the keys themselves, as they stand in files", 0 },
	{ "last", 'l', NULL, 0, "rotate: add the new key behind the others, to be accepted only",
	  0 },
	{ "first", 'i', "ID", 0, "rotate: make no key, but put this one before all others", 0 },
	{ "drop", 'd', "ID", 0, "rotate: make no key, but remove this one", 0 },
	{ 0 },
};

static const char usage[] = "make\nshow\ncheck\nrotate";
static const char doc[] =
	"Make, show, check or rotate the keys that KVTrans processes share. make makes a key file, "
	"unless there is one. show prints the ids of its keys, check tells whether it can be used, "
	"rotate adds a new key before the others, which stay.\v"
	"The key file is the one that KVTRANS_KEY_FILE names, else kvtrans/key in "
	"$XDG_CONFIG_HOME or ~/.config.\n\n"
	"Exit status: 0 success; 1 the file cannot be made, used or changed; 2 wrong use.";

static void set_once(struct argp_state *state, const char **value, const char *text,
		     const char *name)
{
	if (*value != NULL)
		argp_error(state, "one %s is enough", name);
	*value = text;
}

static void check_arguments(struct argp_state *state, const struct arguments *arguments)
{
	static const char *const commands[] = { "make", "show", "check", "rotate" };
	bool is_known = false;
	if (arguments->command == NULL)
		argp_usage(state);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		is_known |= strcmp(arguments->command, commands[i]) == 0;
	if (!is_known)
		argp_error(state, "\"%s\" is none of make, show, check, rotate",
			   arguments->command);
	if (arguments->with_secrets && strcmp(arguments->command, "show") != 0)
		argp_error(state, "--secret is for show");
	int changes = arguments->adds_last + (arguments->first != NULL) + (arguments->drop != NULL);
	if (changes > 0 && strcmp(arguments->command, "rotate") != 0)
		argp_error(state, "--last, --first and --drop are for rotate");
	if (changes > 1)
		argp_error(state, "one of --last, --first and --drop is enough");
}

static error_t parse_key_option(int key, char *text, struct argp_state *state)
{
	struct arguments *arguments = state->input;
	switch (key) {
	case 'f':
		set_once(state, &arguments->file, text, "--file");
		return 0;
	case 's':
		arguments->with_secrets = true;
		return 0;
	case 'l':
		arguments->adds_last = true;
		return 0;
	case 'i':
		set_once(state, &arguments->first, text, "--first");
		return 0;
	case 'd':
		set_once(state, &arguments->drop, text, "--drop");
		return 0;
	case ARGP_KEY_ARG:
		set_once(state, &arguments->command, text, "command");
		return 0;
	case ARGP_KEY_END:
		check_arguments(state, arguments);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void print_key_version(FILE *stream, struct argp_state *state)
{
	(void)state;
	fprintf(stream, "kvtrans-key %s\n", PACKAGE_VERSION);
}

/* Ids; with secrets, a text that is a key file itself. */
static void print_keys(const struct kvi_keys *keys, bool with_secrets)
{
	for (size_t i = 0; i < keys->count; i++) {
		char text[KVI_KEY_TEXT_LEN];
		if (with_secrets)
			kvi_key_print(&keys->keys[i], text);
		else
			kvi_key_print_id(&keys->keys[i], text);
		puts(text);
		sodium_memzero(text, sizeof(text));
	}
}

static enum kvt_err show(const char *path, const struct arguments *arguments,
			 struct kvt_error *error)
{
	/* What stdio keeps of the secrets is memory that a core dump would have. */
	static char buffer[BUFSIZ];
	struct kvi_keys *keys = NULL;
	enum kvt_err err = kvi_key_file_read(path, &keys, error);
	if (err != KVT_OK)
		return err;
	if (strcmp(arguments->command, "show") == 0) {
		setvbuf(stdout, buffer, _IOFBF, sizeof(buffer));
		print_keys(keys, arguments->with_secrets);
		fflush(stdout);
		sodium_memzero(buffer, sizeof(buffer));
	} else {
		printf("%s: %zu %s\n", path, keys->count, keys->count == 1 ? "key" : "keys");
	}
	kvi_keys_close(keys);
	return KVT_OK;
}

static enum kvt_err make(const char *path, struct kvt_error *error)
{
	bool was_made = false;
	struct kvi_keys *keys = NULL;
	enum kvt_err err = kvi_key_file_make(path, &was_made, error);
	if (err == KVT_OK)
		err = kvi_key_file_read(path, &keys, error);
	if (err != KVT_OK)
		return err;
	fprintf(stderr, was_made ? "made %s\n" : "%s is there already, and stays\n", path);
	print_keys(keys, false);
	kvi_keys_close(keys);
	return KVT_OK;
}

static enum kvt_err rotate(const char *path, const struct arguments *arguments,
			   struct kvt_error *error)
{
	enum key_change change = arguments->adds_last ? KEY_ADD_LAST : KEY_ADD_FIRST;
	const char *text = arguments->first != NULL ? arguments->first : arguments->drop;
	uint8_t id[KVI_KEY_ID_LEN];
	size_t len = 0;
	struct kvi_keys *keys = NULL;
	if (text != NULL) {
		change = arguments->first != NULL ? KEY_MOVE_FIRST : KEY_DROP;
		if (sodium_hex2bin(id, sizeof(id), text, strlen(text), NULL, &len, NULL) != 0 ||
		    len != sizeof(id))
			errx(KEY_USAGE, "an ID has 16 hex digits, as show prints them");
	}
	enum kvt_err err = key_change_file(path, change, text != NULL ? id : NULL, error);
	if (err == KVT_OK)
		err = kvi_key_file_read(path, &keys, error);
	if (err != KVT_OK)
		return err;
	print_keys(keys, false);
	kvi_keys_close(keys);
	return KVT_OK;
}

static enum kvt_err run(const struct arguments *arguments, struct kvt_error *error)
{
	struct kvi_key_path path;
	enum kvt_err err = KVT_OK;
	if (arguments->file == NULL)
		err = kvi_key_file_find(&path, error);
	if (err != KVT_OK)
		return err;
	const char *file = arguments->file != NULL ? arguments->file : path.text;
	if (strcmp(arguments->command, "make") == 0)
		return make(file, error);
	if (strcmp(arguments->command, "rotate") == 0)
		return rotate(file, arguments, error);
	return show(file, arguments, error);
}

int main(int argc, char **argv)
{
	const struct argp parser = {
		.options = option_table,
		.parser = parse_key_option,
		.args_doc = usage,
		.doc = doc,
	};
	struct arguments arguments = { .command = NULL };
	struct kvt_error error;
	argp_err_exit_status = KEY_USAGE;
	argp_program_version_hook = print_key_version;
	argp_parse(&parser, argc, argv, 0, NULL, &arguments);

	if (run(&arguments, &error) != KVT_OK) {
		bool is_missing = error.provider_errno == ENOENT &&
				  strcmp(arguments.command, "make") != 0;
		warnx("%s%s", error.text, is_missing ? "; \"kvtrans-key make\" makes it" : "");
		return KEY_FAILED;
	}
	if (fflush(stdout) != 0 || ferror(stdout) != 0) {
		warn("cannot write");
		return KEY_FAILED;
	}
	return KEY_OK;
}
