/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_clock.h - the script of fake_clock.c, which is linked in place of base/clock.c. The clock starts
 * at the real monotonic time and then moves only when told, from any thread.
 */
#ifndef FAKE_CLOCK_H
#define FAKE_CLOCK_H

#include <stdint.h>

void fake_clock_advance(int64_t ns);

#endif
