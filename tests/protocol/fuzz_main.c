/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_main.c - runs the fuzzer's entry without libFuzzer: over the golden bytes, over the files of the
 * directories given (default: the corpus beside this file), then over seeded random changes of them.
 * KVT_FUZZ_COUNT and KVT_FUZZ_SEED say how many and which. An input that aborts is printed first.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"
#include "vectors.h"

enum { SEEDS_MAX = 4096, CHANGES_MAX = 4, DEFAULT_COUNT = 200000 };

struct input {
	size_t len;
	uint8_t bytes[VECTOR_LEN_MAX];
};

static struct input seeds[SEEDS_MAX];
static size_t seed_count;
static struct input current;
static uint64_t random_state;

/* xorshift64*: the same numbers everywhere. */
static uint32_t get_random(uint32_t below)
{
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * UINT64_C(0x2545f4914f6cdd1d)) >> 32) % below;
}

static void print_current(int signal_number)
{
	static const char digits[] = "0123456789abcdef";
	static char text[2 * VECTOR_LEN_MAX + 1];
	for (size_t i = 0; i < current.len; i++) {
		text[2 * i] = digits[current.bytes[i] >> 4];
		text[2 * i + 1] = digits[current.bytes[i] & 15];
	}
	text[2 * current.len] = '\n';
	ssize_t written = write(STDERR_FILENO, text, 2 * current.len + 1);
	(void)written;
	signal(signal_number, SIG_DFL);
	raise(signal_number);
}

static void run_current(void)
{
	LLVMFuzzerTestOneInput(current.bytes, current.len);
}

static void add_seed(void)
{
	run_current();
	if (seed_count < SEEDS_MAX)
		seeds[seed_count++] = current;
}

static void add_vectors(void)
{
	static const enum fuzz_target targets[] = {
		[VECTOR_FRAME] = FUZZ_FRAME,	 [VECTOR_LANE_HELLO] = FUZZ_LANE_HELLO,
		[VECTOR_MESSAGE] = FUZZ_MESSAGE, [VECTOR_DESCRIPTOR] = FUZZ_DESCRIPTOR,
		[VECTOR_ADDRESS] = FUZZ_ADDRESS,
	};
	for (size_t i = 0; i < vector_count; i++) {
		uint8_t bytes[VECTOR_LEN_MAX];
		size_t len = vector_get_bytes(&vectors[i], bytes);
		current.len = len + 1;
		memcpy(current.bytes + 1, bytes, len);
		current.bytes[0] = (uint8_t)targets[vectors[i].kind];
		add_seed();
		if (vectors[i].kind != VECTOR_FRAME)
			continue;
		current.bytes[0] = FUZZ_CLIENT;
		add_seed();
		current.bytes[0] = FUZZ_SERVER;
		add_seed();
		current.bytes[0] = FUZZ_CHANNEL;
		add_seed();
	}
}

static void add_seed_of(enum fuzz_target target, const void *bytes, size_t len)
{
	current.bytes[0] = (uint8_t)target;
	memcpy(current.bytes + 1, bytes, len);
	current.len = len + 1;
	add_seed();
}

static void add_secrets(void)
{
	static const char keys[] = "# two keys\n"
				   "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n"
				   "892d89976b870467:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI= "
				   "# b\n";
	add_seed_of(FUZZ_KEYS, keys, sizeof(keys) - 1);
	add_seed_of(FUZZ_NOISE, fuzz_noise_message, sizeof(fuzz_noise_message));

	/* An insecure opening, and a heartbeat in a record. */
	static const uint8_t call[] = {
		[0] = 0x4b, 0x56, 8, 0, 60, 0, 0, 0, 1, 0, [68] = 8, 0, 0x4b, 0x56, 6, 0, 0, 0, 0, 0
	};
	add_seed_of(FUZZ_CHANNEL, call, sizeof(call));
}

/* Returns false when there is no such directory. */
static bool add_directory(const char *path)
{
	DIR *directory = opendir(path);
	if (directory == NULL)
		return false;

	struct dirent *entry;
	while ((entry = readdir(directory)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		char file_path[4096];
		snprintf(file_path, sizeof(file_path), "%s/%s", path, entry->d_name);
		FILE *file = fopen(file_path, "rb");
		if (file == NULL)
			continue;
		current.len = fread(current.bytes, 1, sizeof(current.bytes), file);
		fclose(file);
		add_seed();
	}
	closedir(directory);
	return true;
}

static void change_current(void)
{
	static const uint8_t edges[] = { 0, 1, 2, 3, 4, 16, 17, 31, 32, 127, 128, 254, 255 };
	uint32_t at = current.len > 0 ? get_random((uint32_t)current.len) : 0;
	switch (get_random(6)) {
	case 0:
		current.bytes[at] ^= (uint8_t)(1U << get_random(8));
		break;
	case 1:
		current.bytes[at] = (uint8_t)get_random(256);
		break;
	case 2:
		current.bytes[at] = edges[get_random(sizeof(edges))];
		break;
	case 3: /* cut */
		current.len = at;
		break;
	case 4: /* insert a byte */
		if (current.len == sizeof(current.bytes))
			break;
		memmove(current.bytes + at + 1, current.bytes + at, current.len - at);
		current.bytes[at] = (uint8_t)get_random(256);
		current.len++;
		break;
	default: { /* the tail of another */
		const struct input *other = &seeds[get_random((uint32_t)seed_count)];
		if (at < other->len) {
			memcpy(current.bytes + at, other->bytes + at, other->len - at);
			current.len = other->len;
		}
	}
	}
}

/* Most frames and messages die at their length; half of the frames get one that fits. */
static void mend_length(void)
{
	uint8_t target = current.len >= 9 ? current.bytes[0] : FUZZ_TARGETS;
	bool is_frame = target == FUZZ_FRAME || target == FUZZ_CLIENT || target == FUZZ_SERVER;
	if (!is_frame || get_random(2) == 0)
		return;
	size_t body_len = current.len - 9;
	current.bytes[5] = (uint8_t)body_len;
	current.bytes[6] = (uint8_t)(body_len >> 8);
	current.bytes[7] = 0;
	current.bytes[8] = 0;
}

static unsigned long get_setting(const char *name, unsigned long fallback)
{
	const char *text = getenv(name);
	return text == NULL ? fallback : strtoul(text, NULL, 0);
}

int main(int argc, char **argv)
{
	signal(SIGABRT, print_current);
	signal(SIGSEGV, print_current);
	add_vectors();
	add_secrets();
	for (int i = 1; i < argc; i++) {
		if (!add_directory(argv[i])) {
			fprintf(stderr, "%s: no such directory\n", argv[i]);
			return 1;
		}
	}
	const char *srcdir = getenv("srcdir");
	if (argc == 1) {
		char path[4096];
		snprintf(path, sizeof(path), "%s/tests/protocol/corpus",
			 srcdir != NULL ? srcdir : ".");
		add_directory(path);
	}

	random_state = get_setting("KVT_FUZZ_SEED", 1) * 2 + 1;
	unsigned long count = get_setting("KVT_FUZZ_COUNT", DEFAULT_COUNT);
	for (unsigned long i = 0; i < count; i++) {
		current = seeds[get_random((uint32_t)seed_count)];
		for (uint32_t n = 1 + get_random(CHANGES_MAX); n > 0; n--)
			change_current();
		mend_length();
		run_current();
	}
	printf("%zu seeds, %lu changed inputs\n", seed_count, count);
	return 0;
}
