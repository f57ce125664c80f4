/* Functions that the SDK's own files share. Not for tasks. */
#ifndef WASQ_INTERNAL_H
#define WASQ_INTERNAL_H

#include <stddef.h>

/* Like malloc, but ends the run if there is no memory. */
void *wasq_allocate(size_t size);

/* The length in bytes of the UTF-8 character here; 0 if there is no valid one. A NUL is a character. */
size_t wasq_utf8_character(const char *at);

#endif
