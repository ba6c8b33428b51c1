/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults.h - scripts that run again and again: the first allocation fails, the second, and so on until a run
 * passes without a failure; likewise posts, completions and opened objects of the fabric. Each run
 * ends in time, with errors that are documented, leaves nothing behind, and does not harm the engines
 * that it opened.
 */
#ifndef FAULTS_FAULTS_H
#define FAULTS_FAULTS_H

#include "engine/bed.h"

#define STEP_NS (2 * KVI_SECOND)

enum { FAULT_COUNT = 18, PACK_BELOW = 8192 };

/* What a script opens; run_all() closes what is left of it, and counts on what is in started. */
extern struct bed bed;
extern unsigned started; /* transfers */

/* False on an error, which must be one that a user is told to expect. */
bool passes(enum kvt_err err, const char *step);

bool open_engines(const struct kvt_engine_config *config);
bool connect_engines(void);

/* Nothing fails until the fault is armed again: what comes before is another script's business. */
void disarm(void);
void arm(void);

/* Wait and free. expected: an error that is no surprise here, or KVT_OK. */
enum kvt_err end(struct kvt_transfer *transfer, enum kvt_err expected, const char *step);

/* The script with fault index % FAULT_COUNT at every place where it can happen: up to FAULT_COUNT with a
 * plain fabric, beyond with two rails, two workers, and everything registered. */
void run_all(void (*script)(const struct kvt_engine_config *config), int index);

#endif
