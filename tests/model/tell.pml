/* SPDX-License-Identifier: Apache-2.0 */
/* tell.pml - ROW(ROW) with TELL: the search prints a row of transitions.list when it takes it first. */
#ifdef TELL
c_decl {
	static void tell(const char *row)
	{
		static const char *told[256];
		static int count;
		for (int i = 0; i < count; i++)
			if (told[i] == row)
				return;
		told[count++] = row;
		printf("row: %s\n", row);
	}
}
#define ROW(row) c_code { tell(row); }
#else
#define ROW(row) skip
#endif
