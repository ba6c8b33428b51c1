/* SPDX-License-Identifier: Apache-2.0 */
/*
 * messages.h - who takes a message of each type.
 */
#ifndef KVI_ENGINE_MESSAGES_H
#define KVI_ENGINE_MESSAGES_H

#include "engine/lane/link.h"

extern const struct kvi_handlers kvi_message_handlers;

#endif
