/* SPDX-License-Identifier: Apache-2.0 */
/*
 * noise_vectors.h - the published vectors of Noise_NNpsk0_25519_ChaChaPoly_SHA256, all that are in
 *   cacophony   github.com/haskell-cryptography/cacophony at 8ee9d41e34a1, vectors/cacophony.txt
 *               (the same in github.com/mcginty/snow at 8ac60f51cfe3, tests/vectors/cacophony.txt)
 *   flynn       github.com/flynn/noise at 4d9f71cd4ba1, vectors.txt, lines 14333, 14384, 14436 and 14491
 */
#ifndef KVI_TESTS_NOISE_VECTORS_H
#define KVI_TESTS_NOISE_VECTORS_H

#include <stddef.h>

enum { VECTOR_MESSAGES = 6 };

struct noise_vector {
	const char *name;
	const char *prologue, *psk, *init_ephemeral, *resp_ephemeral;
	const char *handshake_hash; /* NULL: not told */
	struct {
		const char *payload, *ciphertext;
	} messages[VECTOR_MESSAGES];
};

#define FLYNN_PSK "2176657279736563726574766572797365637265747665727973656372657421"
#define FLYNN_INIT "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
#define FLYNN_RESP "4142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f60"
#define FLYNN_TRANSPORT                                                                            \
	{ "79656c6c6f777375626d6172696e65", "b349a522c145762c7c737ac1d1425ce1fb25c7cca626177ee4ce" \
					    "ed3cd6fb3d" },                                        \
	{                                                                                          \
		"7375626d6172696e6579656c6c6f77", "b41e24399dc3f1ad2faf82868700e4bf31bb89f6616e1d" \
						  "6a92802bb8ad80d6"                               \
	}

static const struct noise_vector noise_vectors[] = {
	{
		.name = "cacophony",
		.prologue = "4a6f686e2047616c74",
		.psk = "54686973206973206d7920417573747269616e20706572737065637469766521",
		.init_ephemeral =
			"893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a",
		.resp_ephemeral =
			"bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b",
		.handshake_hash =
			"f4d03dc34495c95729ea6de9e1b59004b59733102488b3e24bc441e0be208eaf",
		.messages = {
			{ "4c756477696720766f6e204d69736573",
			  "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c7944"
			  "79b962b8aff8485742ac32f905ba45369e2465fb59e138a93d67a0d1266b6a54" },
			{ "4d757272617920526f746862617264",
			  "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843"
			  "d6062704d5a9c422a8e834423f8c1feada7e8d0d910a1a2cd030fb584221e3" },
			{ "462e20412e20486179656b",
			  "e632c3763d7669067383433197a3baddf146e9e70ad4b4e9e59e0f" },
			{ "4361726c204d656e676572",
			  "64c6bee32ea91c8474bb4c21d7a700109ad45af77b29764ba5eb1e" },
			{ "4a65616e2d426170746973746520536179",
			  "e2fa0bed0603b62d3ccac2ecabbf3fe33f3e86514909b323361626266cb2471cc8" },
			{ "457567656e2042f6686d20766f6e2042617765726b",
			  "0c01dc9cec1fe4ddd692e8dd32188aa351088dc91183639a53b57aa4692b5ebd"
			  "ef8b8ca111" },
		},
	},
	{
		.name = "flynn, without payload",
		.prologue = "",
		.psk = FLYNN_PSK,
		.init_ephemeral = FLYNN_INIT,
		.resp_ephemeral = FLYNN_RESP,
		.messages = {
			{ "", "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254"
			      "e7136508cb8178281204abd62e9f2a3e" },
			{ "", "64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d48466"
			      "922f3b7824001193c077abd8b7a73030" },
			FLYNN_TRANSPORT,
		},
	},
	{
		.name = "flynn, with payload",
		.prologue = "",
		.psk = FLYNN_PSK,
		.init_ephemeral = FLYNN_INIT,
		.resp_ephemeral = FLYNN_RESP,
		.messages = {
			{ "746573745f6d73675f30",
			  "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254"
			  "7c78f22f8cea986f934a675201c7f431a539e50c9be46986fa89" },
			{ "746573745f6d73675f31",
			  "64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d48466"
			  "6913ea64c74c2f63ee5e814fda25301b9508e4685ee02e9852fd" },
			FLYNN_TRANSPORT,
		},
	},
	{
		.name = "flynn, with prologue",
		.prologue = "6e6f74736563726574",
		.psk = FLYNN_PSK,
		.init_ephemeral = FLYNN_INIT,
		.resp_ephemeral = FLYNN_RESP,
		.messages = {
			{ "", "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254"
			      "6e96a20116b68fd776478e81d11779ca" },
			{ "", "64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d48466"
			      "66f51bc44f88917daa53fb4529499b55" },
			FLYNN_TRANSPORT,
		},
	},
	{
		.name = "flynn, with both",
		.prologue = "6e6f74736563726574",
		.psk = FLYNN_PSK,
		.init_ephemeral = FLYNN_INIT,
		.resp_ephemeral = FLYNN_RESP,
		.messages = {
			{ "746573745f6d73675f30",
			  "358072d6365880d1aeea329adf9121383851ed21a28e3b75e965d0d2cd166254"
			  "7c78f22f8cea986f934ab17c2484a24a990a6473d588a4f20e99" },
			{ "746573745f6d73675f31",
			  "64b101b1d0be5a8704bd078f9895001fc03e8e9f9522f188dd128d9846d48466"
			  "6913ea64c74c2f63ee5e32a5358320d459322d624c9ccc975fa0" },
			FLYNN_TRANSPORT,
		},
	},
};

#endif
