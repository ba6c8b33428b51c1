/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_main.c - drives a fuzzer's target without libFuzzer: its seeds, the files of the directories given
 * (default: its corpus), then seeded random changes of them, alone or what two of them say joined. KVT_FUZZ_COUNT and
 * KVT_FUZZ_SEED say how many and which; KVT_TEST_LONG makes it twenty times as many, a sanitizer a twentieth
 * (and of the seeds it runs one of four). An input
 * that aborts is printed first. KVT_FUZZ_SEEDS names a directory to write the seeds to, which libFuzzer may begin with.
 */
#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

enum { SEEDS_MAX = 4096, CHANGES_MAX = 4, LONG = 20, UNDER_SANITIZER = 20, SEED_STEP = 4 };

struct input {
	size_t len;
	uint8_t bytes[FUZZ_INPUT_MAX];
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
	static char text[2 * FUZZ_INPUT_MAX + 1];
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

static bool is_sanitized(void)
{
	const char *sanitizers = getenv("KVT_SANITIZERS");
	return sanitizers != NULL && sanitizers[0] != '\0';
}

static void add_seed(const uint8_t *bytes, size_t len)
{
	current.len = len < sizeof(current.bytes) ? len : sizeof(current.bytes);
	memcpy(current.bytes, bytes, current.len);
	if (!is_sanitized() || seed_count % SEED_STEP == 0)
		run_current();
	if (seed_count < SEEDS_MAX)
		seeds[seed_count++] = current;
}

/* Returns false when there is no such directory. */
static bool add_directory(const char *path)
{
	DIR *directory = opendir(path);
	if (directory == NULL)
		return false;

	struct dirent *entry;
	while ((entry = readdir(directory)) != NULL) {
		uint8_t bytes[FUZZ_INPUT_MAX];
		char file_path[4096];
		if (entry->d_name[0] == '.')
			continue;
		snprintf(file_path, sizeof(file_path), "%s/%s", path, entry->d_name);
		FILE *file = fopen(file_path, "rb");
		if (file == NULL)
			continue;
		size_t len = fread(bytes, 1, sizeof(bytes), file);
		fclose(file);
		add_seed(bytes, len);
	}
	closedir(directory);
	return true;
}

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t len, size_t room)
{
	static const uint8_t edges[] = { 0, 1, 2, 3, 4, 16, 17, 31, 32, 127, 128, 254, 255 };
	uint32_t at = len > 0 ? get_random((uint32_t)len) : 0;
	uint32_t way = get_random(6);
	if (len == 0)
		way = 4;
	switch (way) {
	case 0:
		bytes[at] ^= (uint8_t)(1U << get_random(8));
		return len;
	case 1:
		bytes[at] = (uint8_t)get_random(256);
		return len;
	case 2:
		bytes[at] = edges[get_random(sizeof(edges))];
		return len;
	case 3: /* cut */
		return at;
	case 4: /* insert a byte */
		if (len == room)
			return len;
		memmove(bytes + at + 1, bytes + at, len - at);
		bytes[at] = (uint8_t)get_random(256);
		return len + 1;
	default: { /* the tail of another */
		const struct input *other = &seeds[get_random((uint32_t)seed_count)];
		if (at >= other->len || other->len > room)
			return len;
		memcpy(bytes + at, other->bytes + at, other->len - at);
		return other->len;
	}
	}
}

static unsigned long get_setting(const char *name, unsigned long fallback)
{
	const char *text = getenv(name);
	return text == NULL || text[0] == '\0' ? fallback : strtoul(text, NULL, 0);
}

static unsigned long get_count(void)
{
	unsigned long count = fuzz_count;
	if (get_setting("KVT_TEST_LONG", 0) != 0)
		count *= LONG;
	if (is_sanitized())
		count /= UNDER_SANITIZER;
	return get_setting("KVT_FUZZ_COUNT", count);
}

static void write_seeds(const char *path)
{
	for (size_t i = 0; i < seed_count; i++) {
		char file_path[4096];
		snprintf(file_path, sizeof(file_path), "%s/seed-%zu", path, i);
		FILE *file = fopen(file_path, "wb");
		require(file != NULL);
		require(fwrite(seeds[i].bytes, 1, seeds[i].len, file) == seeds[i].len);
		require(fclose(file) == 0);
	}
}

static void add_corpus(void)
{
	const char *srcdir = getenv("srcdir");
	char path[4096];
	snprintf(path, sizeof(path), "%s/tests/%s", srcdir != NULL ? srcdir : ".", fuzz_corpus);
	if (!add_directory(path)) {
		fprintf(stderr, "%s: no corpus there (srcdir is not set?)\n", path);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	time_t started = time(NULL);
	signal(SIGABRT, print_current);
	signal(SIGSEGV, print_current);
	fuzz_add_seeds(add_seed);
	for (int i = 1; i < argc; i++) {
		if (!add_directory(argv[i])) {
			fprintf(stderr, "%s: no such directory\n", argv[i]);
			return 1;
		}
	}
	if (argc == 1)
		add_corpus();

	if (getenv("KVT_FUZZ_SEEDS") != NULL)
		write_seeds(getenv("KVT_FUZZ_SEEDS"));

	random_state = get_setting("KVT_FUZZ_SEED", 1) * 2 + 1;
	unsigned long count = get_count();
	for (unsigned long i = 0; i < count; i++) {
		current = seeds[get_random((uint32_t)seed_count)];
		for (uint32_t n = 1 + get_random(CHANGES_MAX); n > 0; n--)
			current.len = LLVMFuzzerCustomMutator(current.bytes, current.len,
							      sizeof(current.bytes),
							      get_random(UINT32_MAX));
		run_current();
	}
	fuzz_finish();
	printf("%zu seeds and %lu changed inputs, %ld s\n", seed_count, count,
	       (long)(time(NULL) - started));
	return 0;
}
