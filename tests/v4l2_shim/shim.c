/* A V4L2 camera without a kernel: preload this library and every unix socket inside the folder
 * $V4L2_SHIM_DIR opens as a capture device that answers like the PS Eye's driver (gspca_ov534).
 * The pictures come from the socket's server (camera.py), into buffers the program has queued.
 *
 * To the server, three little-endian words: kind, a, b. From it: a header and the picture.
 * Meant for one capturing thread. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { MAX_FD = 1024, MAX_BUFFERS = 8, BUFFER_BYTES = 640 * 480 * 2 };
enum kind { QUEUE = 1, STREAM, FORMAT, RATE, CONTROL };
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

struct control {
    uint32_t id;
    const char *name;
    int type, maximum, preset;
};

static const struct control CONTROLS[] = {
    {V4L2_CID_BRIGHTNESS, "Brightness", V4L2_CTRL_TYPE_INTEGER, 255, 0},
    {V4L2_CID_CONTRAST, "Contrast", V4L2_CTRL_TYPE_INTEGER, 255, 32},
    {V4L2_CID_AUTO_WHITE_BALANCE, "White Balance, Automatic", V4L2_CTRL_TYPE_BOOLEAN, 1, 1},
    {V4L2_CID_EXPOSURE, "Exposure", V4L2_CTRL_TYPE_INTEGER, 255, 120},
    {V4L2_CID_AUTOGAIN, "Gain, Automatic", V4L2_CTRL_TYPE_BOOLEAN, 1, 1},
    {V4L2_CID_GAIN, "Gain", V4L2_CTRL_TYPE_INTEGER, 63, 20},
    {V4L2_CID_HFLIP, "Horizontal Flip", V4L2_CTRL_TYPE_BOOLEAN, 1, 0},
    {V4L2_CID_VFLIP, "Vertical Flip", V4L2_CTRL_TYPE_BOOLEAN, 1, 0},
    {V4L2_CID_POWER_LINE_FREQUENCY, "Power Line Frequency", V4L2_CTRL_TYPE_MENU, 1, 0},
    {V4L2_CID_SHARPNESS, "Sharpness", V4L2_CTRL_TYPE_INTEGER, 63, 0},
    {V4L2_CID_EXPOSURE_AUTO, "Auto Exposure", V4L2_CTRL_TYPE_MENU, 1, 0},
};
static const uint32_t FOURCC[] = {V4L2_PIX_FMT_YUYV, V4L2_PIX_FMT_SGRBG8, V4L2_PIX_FMT_MJPEG};
static const int SIZES[][2] = {{320, 240}, {640, 480}};
static const int SMALL_RATES[] = {187, 150, 137, 125, 100, 75, 60, 50, 37, 30};
static const int LARGE_RATES[] = {60, 50, 40, 30, 15};

struct camera {
    int open, memory, buffers, width, height, rate, streaming;
    uint32_t fourcc, epoch;
    int32_t values[COUNT(CONTROLS)];
    int queued[MAX_BUFFERS];
    unsigned head, tail; /* of the queue */
    unsigned char *pixels;
};
static struct camera cameras[MAX_FD];

struct __attribute__((packed)) header {
    uint32_t epoch, sequence, bytes, flags;
    uint64_t t_ns;
};

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static struct camera *camera_at(int fd)
{
    return fd >= 0 && fd < MAX_FD && cameras[fd].open ? &cameras[fd] : NULL;
}

static int is_ours(const char *path)
{
    const char *folder = getenv("V4L2_SHIM_DIR");
    struct stat found;
    return folder && path && !strncmp(path, folder, strlen(folder)) && !stat(path, &found) &&
           S_ISSOCK(found.st_mode);
}

static int fail(int error)
{
    errno = error;
    return -1;
}

static int tell(int fd, enum kind kind, uint32_t a, uint32_t b)
{
    uint32_t words[3] = {kind, a, b};
    return send(fd, words, sizeof words, MSG_NOSIGNAL) == sizeof words ? 0 : fail(ENODEV);
}

static int connect_camera(const char *path, int flags)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int type = SOCK_STREAM | (flags & O_CLOEXEC ? SOCK_CLOEXEC : 0) |
               (flags & O_NONBLOCK ? SOCK_NONBLOCK : 0);
    int fd = socket(AF_UNIX, type, 0);
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    if (fd >= MAX_FD || connect(fd, (void *)&address, sizeof address)) {
        close(fd);
        return fail(ENOENT);
    }
    struct camera *camera = &cameras[fd];
    *camera = (struct camera){.open = 1, .memory = -1, .width = 640, .height = 480, .rate = 30,
                              .fourcc = V4L2_PIX_FMT_YUYV};
    for (unsigned i = 0; i < COUNT(CONTROLS); i++) camera->values[i] = CONTROLS[i].preset;
    return fd;
}

static int open_any(int (*real)(const char *, int, ...), const char *path, int flags, va_list rest)
{
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    return is_ours(path) ? connect_camera(path, flags) : real(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    REAL(open);
    va_list rest;
    va_start(rest, flags);
    int fd = open_any(real, path, flags, rest);
    va_end(rest);
    return fd;
}

int open64(const char *path, int flags, ...)
{
    REAL(open64);
    va_list rest;
    va_start(rest, flags);
    int fd = open_any(real, path, flags, rest);
    va_end(rest);
    return fd;
}

static void free_buffers(struct camera *camera)
{
    if (camera->pixels) munmap(camera->pixels, (size_t)MAX_BUFFERS * BUFFER_BYTES);
    if (camera->memory >= 0) close(camera->memory);
    camera->pixels = NULL;
    camera->memory = -1;
}

int close(int fd)
{
    REAL(close);
    struct camera *camera = camera_at(fd);
    if (camera) {
        camera->open = 0;
        free_buffers(camera);
    }
    return real(fd);
}

void *mmap64(void *where, size_t length, int protection, int flags, int fd, off64_t offset)
{
    REAL(mmap64);
    struct camera *camera = camera_at(fd);
    return real(where, length, protection, flags, camera ? camera->memory : fd, offset);
}

void *mmap(void *where, size_t length, int protection, int flags, int fd, off_t offset)
{
    return mmap64(where, length, protection, flags, fd, offset);
}

static int receive(int fd, void *into, size_t bytes)
{
    char *at = into;
    while (bytes) {
        ssize_t got = recv(fd, at, bytes, 0);
        if (got == 0) return fail(ENODEV);
        if (got < 0) {
            if (errno != EAGAIN && errno != EINTR) return fail(ENODEV);
            struct pollfd more = {fd, POLLIN, 0};
            poll(&more, 1, 100);
            continue;
        }
        at += got;
        bytes -= got;
    }
    return 0;
}

static int unplugged(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* Of a line; a compressed picture has none. */
static int bytes_per_pixel(uint32_t fourcc)
{
    return fourcc == V4L2_PIX_FMT_MJPEG ? 0 : fourcc == V4L2_PIX_FMT_YUYV ? 2 : 1;
}

static int nearest_rate(int width, int wanted)
{
    const int *rates = width == 320 ? SMALL_RATES : LARGE_RATES;
    unsigned count = width == 320 ? COUNT(SMALL_RATES) : COUNT(LARGE_RATES), i = 0;
    while (i + 1 < count && rates[i + 1] >= wanted) i++;
    return rates[i];
}

static int set_format(int fd, struct camera *camera, struct v4l2_format *format, int keep)
{
    if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
    if (keep && camera->buffers) return fail(EBUSY);
    struct v4l2_pix_format *pix = &format->fmt.pix;
    int small = pix->width <= 480;
    uint32_t fourcc = FOURCC[0];
    for (unsigned i = 0; i < COUNT(FOURCC); i++)
        if (pix->pixelformat == FOURCC[i]) fourcc = FOURCC[i];
    *pix = (struct v4l2_pix_format){.width = small ? 320 : 640, .height = small ? 240 : 480,
                                    .pixelformat = fourcc, .field = V4L2_FIELD_NONE,
                                    .colorspace = V4L2_COLORSPACE_SRGB};
    pix->bytesperline = pix->width * bytes_per_pixel(fourcc);
    pix->sizeimage = (pix->bytesperline ? pix->bytesperline : 2 * pix->width) * pix->height;
    if (!keep) return 0;
    camera->width = pix->width;
    camera->height = pix->height;
    camera->fourcc = fourcc;
    return tell(fd, FORMAT, pix->width, pix->bytesperline);
}

static int rate(int fd, struct camera *camera, struct v4l2_streamparm *parameters, int set)
{
    struct v4l2_captureparm *capture = &parameters->parm.capture;
    struct v4l2_fract wanted = capture->timeperframe;
    if (set) { /* the driver says what it was asked for and runs at the nearest rate it has */
        camera->rate = wanted.numerator ? wanted.denominator / wanted.numerator : 30;
        if (tell(fd, RATE, nearest_rate(camera->width, camera->rate), 0)) return -1;
    }
    memset(capture, 0, sizeof *capture);
    capture->capability = V4L2_CAP_TIMEPERFRAME;
    capture->timeperframe = (struct v4l2_fract){1, camera->rate};
    capture->readbuffers = 2;
    return 0;
}

static int find_control(uint32_t id)
{
    int best = -1;
    for (unsigned i = 0; i < COUNT(CONTROLS); i++) {
        if (CONTROLS[i].id == id) return i;
        uint32_t after = id & ~V4L2_CTRL_FLAG_NEXT_CTRL;
        if (id & V4L2_CTRL_FLAG_NEXT_CTRL && CONTROLS[i].id > after &&
            (best < 0 || CONTROLS[i].id < CONTROLS[best].id))
            best = i;
    }
    return best;
}

static int query_control(struct v4l2_queryctrl *query)
{
    int i = find_control(query->id);
    if (i < 0) return fail(EINVAL);
    const struct control *control = &CONTROLS[i];
    *query = (struct v4l2_queryctrl){.id = control->id, .type = control->type, .step = 1,
                                     .maximum = control->maximum,
                                     .default_value = control->preset};
    strncpy((char *)query->name, control->name, sizeof query->name - 1);
    return 0;
}

static int control(int fd, struct camera *camera, struct v4l2_control *asked, int set)
{
    const char *stuck = getenv("V4L2_SHIM_STUCK"); /* a control that swallows what it is told */
    int i = find_control(asked->id);
    if (i < 0) return fail(EINVAL);
    if (!set) {
        asked->value = camera->values[i];
        return 0;
    }
    if (asked->value < 0 || asked->value > CONTROLS[i].maximum) return fail(ERANGE);
    if (!stuck || strtoul(stuck, NULL, 0) != asked->id) camera->values[i] = asked->value;
    return tell(fd, CONTROL, asked->id, asked->value);
}

static int enumerate(unsigned long request, void *record)
{
    switch (request) {
    case VIDIOC_ENUM_FMT: {
        struct v4l2_fmtdesc *format = record;
        if (format->index >= COUNT(FOURCC)) return fail(EINVAL);
        format->pixelformat = FOURCC[format->index];
        return 0;
    }
    case VIDIOC_ENUM_FRAMESIZES: {
        struct v4l2_frmsizeenum *size = record;
        if (size->index >= COUNT(SIZES)) return fail(EINVAL);
        size->type = V4L2_FRMSIZE_TYPE_DISCRETE;
        size->discrete.width = SIZES[size->index][0];
        size->discrete.height = SIZES[size->index][1];
        return 0;
    }
    default: {
        struct v4l2_frmivalenum *interval = record;
        int small = interval->width == 320;
        if (interval->index >= (small ? COUNT(SMALL_RATES) : COUNT(LARGE_RATES)))
            return fail(EINVAL);
        interval->type = V4L2_FRMIVAL_TYPE_DISCRETE;
        interval->discrete =
            (struct v4l2_fract){1, (small ? SMALL_RATES : LARGE_RATES)[interval->index]};
        return 0;
    }
    }
}

static int request_buffers(struct camera *camera, struct v4l2_requestbuffers *request)
{
    if (request->memory != V4L2_MEMORY_MMAP) return fail(EINVAL);
    if (camera->streaming) return fail(EBUSY);
    free_buffers(camera);
    if (request->count > MAX_BUFFERS) request->count = MAX_BUFFERS;
    camera->buffers = request->count;
    camera->head = camera->tail = 0;
    if (!camera->buffers) return 0;
    size_t bytes = (size_t)MAX_BUFFERS * BUFFER_BYTES;
    camera->memory = memfd_create("v4l2-shim", MFD_CLOEXEC);
    if (camera->memory < 0 || ftruncate(camera->memory, bytes)) return fail(ENOMEM);
    camera->pixels = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, camera->memory, 0);
    return camera->pixels == MAP_FAILED ? fail(ENOMEM) : 0;
}

static void describe_buffer(struct v4l2_buffer *buffer, unsigned index)
{
    memset(buffer, 0, sizeof *buffer);
    buffer->index = index;
    buffer->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    buffer->memory = V4L2_MEMORY_MMAP;
    buffer->length = BUFFER_BYTES;
    buffer->m.offset = index * BUFFER_BYTES;
    buffer->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC | V4L2_BUF_FLAG_MAPPED;
}

static int stream(int fd, struct camera *camera, int on)
{
    camera->streaming = on;
    if (!on) camera->head = camera->tail = 0;
    return tell(fd, STREAM, on, ++camera->epoch);
}

static int queue(int fd, struct camera *camera, struct v4l2_buffer *buffer)
{
    if (buffer->index >= (unsigned)camera->buffers) return fail(EINVAL);
    camera->queued[camera->head++ % MAX_BUFFERS] = buffer->index;
    return tell(fd, QUEUE, buffer->index, 0);
}

static int dequeue(int fd, struct camera *camera, struct v4l2_buffer *buffer)
{
    static unsigned char sink[BUFFER_BYTES];
    struct pollfd more = {fd, POLLIN, 0};
    struct header header;
    for (;;) {
        int wait_ms = fcntl(fd, F_GETFL) & O_NONBLOCK ? 0 : -1;
        if (poll(&more, 1, wait_ms) == 0) return fail(EAGAIN);
        if (receive(fd, &header, sizeof header)) return -1;
        if (header.epoch == camera->epoch && camera->tail != camera->head) break;
        if (receive(fd, sink, header.bytes)) return -1; /* of an earlier stream */
    }
    unsigned index = camera->queued[camera->tail++ % MAX_BUFFERS];
    if (receive(fd, camera->pixels + (size_t)index * BUFFER_BYTES, header.bytes)) return -1;
    describe_buffer(buffer, index);
    buffer->flags |= V4L2_BUF_FLAG_DONE | header.flags;
    buffer->bytesused = header.bytes;
    buffer->sequence = header.sequence;
    buffer->field = V4L2_FIELD_NONE;
    buffer->timestamp.tv_sec = header.t_ns / 1000000000;
    buffer->timestamp.tv_usec = header.t_ns % 1000000000 / 1000;
    return 0;
}

static int capability(struct v4l2_capability *found)
{
    memset(found, 0, sizeof *found);
    strcpy((char *)found->driver, "ov534");
    strcpy((char *)found->card, "USB Camera-B4.09.24.1");
    strcpy((char *)found->bus_info, "usb-0000:00:14.0-1");
    found->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING | V4L2_CAP_READWRITE;
    found->capabilities = found->device_caps | V4L2_CAP_DEVICE_CAPS;
    return 0;
}

static int answer(int fd, struct camera *camera, unsigned long request, void *record)
{
    if (unplugged(fd)) return fail(ENODEV);
    switch (request) {
    case VIDIOC_QUERYCAP: return capability(record);
    case VIDIOC_ENUM_FMT:
    case VIDIOC_ENUM_FRAMESIZES:
    case VIDIOC_ENUM_FRAMEINTERVALS: return enumerate(request, record);
    case VIDIOC_S_FMT: return set_format(fd, camera, record, 1);
    case VIDIOC_TRY_FMT: return set_format(fd, camera, record, 0);
    case VIDIOC_G_PARM: return rate(fd, camera, record, 0);
    case VIDIOC_S_PARM: return rate(fd, camera, record, 1);
    case VIDIOC_QUERYCTRL: return query_control(record);
    case VIDIOC_G_CTRL: return control(fd, camera, record, 0);
    case VIDIOC_S_CTRL: return control(fd, camera, record, 1);
    case VIDIOC_REQBUFS: return request_buffers(camera, record);
    case VIDIOC_QUERYBUF:
        describe_buffer(record, ((struct v4l2_buffer *)record)->index);
        return 0;
    case VIDIOC_QBUF: return queue(fd, camera, record);
    case VIDIOC_DQBUF: return dequeue(fd, camera, record);
    case VIDIOC_STREAMON: return stream(fd, camera, 1);
    case VIDIOC_STREAMOFF: return stream(fd, camera, 0);
    default: return fail(ENOTTY);
    }
}

int ioctl(int fd, unsigned long request, ...)
{
    REAL(ioctl);
    va_list rest;
    va_start(rest, request);
    void *record = va_arg(rest, void *);
    va_end(rest);
    struct camera *camera = camera_at(fd);
    return camera ? answer(fd, camera, (uint32_t)request, record) : real(fd, request, record);
}
