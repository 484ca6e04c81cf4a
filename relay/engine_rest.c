/*
 * engine_rest.c - giving back what only the start needed.
 *
 * Libraries touch much of themselves while they are set up: self tests, tables of
 * algorithms, locales. That is code and constant data of files, which the kernel
 * keeps anyway; mapped into a relay that waits it only counts as its memory. What
 * is needed again comes back by itself, page by page. Freed heap goes back too.
 */
#include "relay/engine_impl.h"

#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#define HEAP_LARGE (256 * 1024)  /* a piece of this size is mapped by itself */
#define HEAP_SPARE (1024 * 1024) /* free at the heap's end, kept for the next message */

/* Relocations were written into its code (old assembler): those pages are not in the file. */
static bool has_changed_text(const struct dl_phdr_info *object)
{
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_DYNAMIC)
            continue;
        const ElfW(Dyn) *entry = (const ElfW(Dyn) *)(object->dlpi_addr + part->p_vaddr);
        for (; entry->d_tag != DT_NULL; entry++)
            if (entry->d_tag == DT_TEXTREL ||
                (entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL)))
                return true;
    }
    return false;
}

static int give_back(struct dl_phdr_info *object, size_t size, void *arg)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);

    (void)size, (void)arg;
    if (has_changed_text(object))
        return 0;
    for (size_t i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        uintptr_t begin = object->dlpi_addr + part->p_vaddr, end = begin + part->p_memsz;
        if (part->p_type != PT_LOAD || (part->p_flags & PF_W))
            continue;
        begin = (begin + page - 1) & ~(page - 1); /* whole pages of ours */
        end &= ~(page - 1);
        if (begin < end)
            (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
    }
    return 0;
}

/* By itself the heap keeps ever larger pieces once one of their size was freed, and
 * grows by the crowd's largest. From here on they go back at once; buffers that a
 * session or delivery fills again and again (64 KB, doubled at most) stay. */
void engine_heap(void)
{
    mallopt(M_MMAP_THRESHOLD, HEAP_LARGE);
    mallopt(M_TRIM_THRESHOLD, HEAP_SPARE);
}

void engine_rest(void)
{
    malloc_trim(0);
    (void)dl_iterate_phdr(give_back, NULL);
}
