/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.h - tests/model/transitions.list, and what an engine says, for tests that hold the engine to that list. The list
 * itself tells how a state is reached: by the fewest of its rows. So a row that is added is tested, too.
 *
 * The test is linked with --wrap for the functions that say something.
 */
#ifndef ENGINE_ROWS_H
#define ENGINE_ROWS_H

#include "bed.h"

#include "engine/lane/link.h"

enum { ROW_WORD_LEN = 48, ROW_TEXT_LEN = 256, ROW_PATH_LEN = 12 };

struct row {
	char side[ROW_WORD_LEN], from[ROW_WORD_LEN], event[ROW_WORD_LEN], to[ROW_WORD_LEN],
		says[ROW_WORD_LEN];
};

/* The rows that lead to one, itself included. */
struct path {
	const struct row *rows[ROW_PATH_LEN];
	unsigned len;
};

/* Walks to each row of a side. */
void rows_walk(const char *side, void (*walk)(const struct path *path));
bool path_has_event(const struct path *path, const char *event);
/* Text is of ROW_TEXT_LEN; "-" says nothing. */
void row_add_says(char *text, const char *says);

/* What is said on this lane from now on; NULL: nothing is noted. */
void said_on(struct kvi_link *link);
void said_forget(void);
/* Under the lock of the lane's worker; text is of ROW_TEXT_LEN. */
void said_format(char *text);
/* The number of the last ATTACH. */
uint64_t said_get_attach(void);

/* An engine takes all that comes without a word from now on, but for the end of a lane. Under its worker's lock. */
void fall_silent(struct kvt_engine *engine);

/* Look until the state is the one that the row, or the next, leads to, and compare it and what was said. */
void row_expect(const struct row *row, const char *to, const char *says,
		void (*look)(char *state, char *says));

#endif
