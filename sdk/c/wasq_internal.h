/* What the SDK's own files share. Not for tasks. */
#ifndef WASQ_INTERNAL_H
#define WASQ_INTERNAL_H

#include <stddef.h>

/* As malloc; a run for which there is no memory ends. */
void *wasq_allocate(size_t size);

/* How many bytes the UTF-8 character has that stands here; 0 if none does. A NUL is one. */
size_t wasq_utf8_character(const char *at);

#endif
