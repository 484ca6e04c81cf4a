/*
 * err.c - words for errors, errno translated, faults filled.
 */
#include "relay/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *err_text(enum err err)
{
    static const char *const texts[] = {
#define X(name, text) text,
        ERR_MAP(X)
#undef X
    };

    if ((unsigned)err >= sizeof(texts) / sizeof(texts[0]))
        return "unknown error";
    return texts[err];
}

enum err err_of_errno(int errnum)
{
    switch (errnum) {
    case 0:
        return ERR_OK;
    case EAGAIN:
    case EINTR:
    case EINPROGRESS:
        return ERR_AGAIN;
    case EINVAL:
    case EBADF:
    case EDOM:
    case EILSEQ:
    case ENOTDIR:
    case EISDIR:
    case ENAMETOOLONG:
    case ELOOP:
        return ERR_INVALID;
    case E2BIG:
    case EMFILE:
    case ENFILE:
    case EMSGSIZE:
    case EOVERFLOW:
    case ERANGE:
    case ENOBUFS:
        return ERR_LIMIT;
    case ENOENT:
    case ESRCH:
    case ENXIO:
        return ERR_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_DENIED;
    case EBUSY:
    case EADDRINUSE:
    case ETXTBSY:
        return ERR_BUSY;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
        return ERR_FULL;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECONNREFUSED:
        return ERR_REFUSED;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT: /* a machine without IPv6: the next address may work */
        return ERR_UNREACHABLE;
    case EPIPE:
    case ECONNRESET:
    case ECONNABORTED:
    case ENOTCONN:
    case ESHUTDOWN:
        return ERR_CLOSED;
    case ENOSYS:
    case ENOTSUP:
    case EPROTONOSUPPORT:
        return ERR_UNSUPPORTED;
    case ECANCELED:
        return ERR_CANCELLED;
    default: /* errno is not our enum: what we have no word for is I/O */
        return ERR_IO;
    }
}

enum err fault_set(struct fault *fault, enum err err, const char *format, ...)
{
    va_list args;

    if (!fault)
        return err;
    fault->err = err;
    va_start(args, format);
    vsnprintf(fault->text, sizeof(fault->text), format, args);
    va_end(args);
    return err;
}

enum err fault_errno(struct fault *fault, int errnum, const char *format, ...)
{
    enum err err = err_of_errno(errnum);
    char why[128];
    va_list args;

    if (err == ERR_OK) /* a library failed without saying why: still a failure */
        err = ERR_IO;
    if (!fault)
        return err;
    fault->err = err;
    va_start(args, format);
    vsnprintf(fault->text, sizeof(fault->text), format, args);
    va_end(args);
    size_t len = strlen(fault->text);
    snprintf(fault->text + len, sizeof(fault->text) - len, ": %s",
             strerror_r(errnum, why, sizeof(why)));
    return err;
}
