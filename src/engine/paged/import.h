/* SPDX-License-Identifier: Apache-2.0 */
/*
 * import.h - importing what the peer exports, as a transfer: it asks the owner, FIND for a descriptor and ATTACH for
 * leave to use it (docs/protocol.md 7.2), and ends with a remote. A transfer is at home on the lane of its questions.
 */
#ifndef KVI_ENGINE_IMPORT_H
#define KVI_ENGINE_IMPORT_H

#include <kvtrans.h>

struct kvi_link;
struct kvi_message;

/* messages.c: FOUND, ATTACHED and NO_EXPORT. */
enum kvt_err kvi_import_on_answer(struct kvi_link *link, const struct kvi_message *message);

#endif
