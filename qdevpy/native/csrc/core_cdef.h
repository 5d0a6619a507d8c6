/* SPDX-License-Identifier: Apache-2.0
 *
 * What Python sees of the core, for cffi; build_core.py has the C compiler check it against the headers.
 */

/* --- qd_mem.h --- */
#define QD_MEM_MAX ...
struct qd_ram { uint64_t gpa; uint64_t size; uint8_t *hva; ...; };
struct qd_mem { uint32_t n; struct qd_ram ram[...]; ...; };

/* --- qd_vring.h --- */
#define QD_VRING_MAX ...
struct iovec { void *iov_base; size_t iov_len; };
struct qd_tapped;
struct qd_vring {
    uint16_t num, last_avail, used_idx, published, inflight;
    bool packed, in_order, polled, avail_wrap, used_wrap;
    uint16_t ready;
    struct qd_tapped *tapped;
    uint64_t popped;
    const char *error;
    ...;
};
struct qd_elem {
    uint16_t head, out_num, in_num;
    uint64_t out_len, in_len;
    struct iovec iov[...];
    ...;
};

bool qd_vring_need_event(uint16_t event, uint16_t new_idx, uint16_t old);
void qd_vring_unpop(struct qd_vring *vr);
size_t qd_iov_read(const struct iovec *iov, unsigned n, size_t offset, void *to, size_t len);
size_t qd_iov_write(const struct iovec *iov, unsigned n, size_t offset, const void *from, size_t len);
unsigned qd_iov_slice(const struct iovec *iov, unsigned n, size_t offset, size_t len, struct iovec *to);

/* --- qd_loop.h --- */
struct qd_loop;
struct qd_fd {
    int fd;
    uint32_t events;
    void (*ready)(struct qd_fd *self, uint32_t events);
    void *opaque;
    bool (*poll)(struct qd_fd *self);
    bool (*polling)(struct qd_fd *self, bool on);
    ...;
};
struct qd_polling { uint64_t max_ns, grow, shrink; };
struct qd_loop_stats { uint64_t polls_hit, polls_missed, polled_ns, sleeps, window_ns; };
struct qd_loop *qd_loop_new(const char *name);
void qd_loop_free(struct qd_loop *loop);
int qd_loop_add(struct qd_loop *loop, struct qd_fd *handler);
int qd_loop_mod(struct qd_loop *loop, struct qd_fd *handler);
void qd_loop_del(struct qd_loop *loop, struct qd_fd *handler);
void qd_loop_call(struct qd_loop *loop, void (*fn)(void *arg), void *arg);
void qd_loop_set_polling(struct qd_loop *loop, struct qd_polling polling);
struct qd_polling qd_loop_polling(struct qd_loop *loop);
void qd_loop_get_stats(struct qd_loop *loop, struct qd_loop_stats *stats);
void qd_loop_set_max_batch(struct qd_loop *loop, uint64_t max_batch);
uint64_t qd_loop_max_batch(struct qd_loop *loop);
int qd_loop_tid(struct qd_loop *loop);

/* --- qd_queue.h --- */
enum qd_vq_state { QD_VQ_IDLE, QD_VQ_STARTED, QD_VQ_ATTACHED };
#define QD_VDEV_EVENT_ERROR ...
#define QD_ISR_QUEUE ...
#define QD_ISR_CONFIG ...
#define QD_NO_FD ...
struct qd_vq;
struct qd_vdev;
struct qd_queue_ops { void (*kick)(struct qd_vq *vq); ...; };
extern const struct qd_queue_ops *const qd_null_ops;

/* --- relay.h --- */
#define QD_RELAY_USED ...
#define QD_RELAY_BYTES ...
struct qd_relay { int kick_fd; struct qd_fd call; bool wrong; ...; };
struct qd_relay *qd_relay_new(uint8_t *shadow, int err_fd);
void qd_relay_free(struct qd_relay *r);
const struct qd_queue_ops *qd_relay_ops(void);
void qd_relay_bind(struct qd_relay *r, struct qd_vq *vq);
uint16_t qd_relay_connect(struct qd_relay *r, uint16_t num, bool fresh);
void qd_relay_disconnect(struct qd_relay *r);
void qd_relay_forget(struct qd_relay *r);
unsigned qd_relay_inflight(struct qd_relay *r);
struct qd_vq {
    struct qd_vring ring;
    struct qd_loop *loop;
    const struct qd_queue_ops *ops;
    void *opaque;
    uint16_t index;
    enum qd_vq_state state;
    int irq_fd;
    uint64_t kicks_ioeventfd, kicks_sync, kicks_polled, interrupts;
    ...;
};
struct qd_vdev {
    uint16_t n_queues;
    uint64_t features;
    uint8_t isr;
    bool use_msix;
    int event_fd;
    const char *error;
    const char *label;
    ...;
};
void qd_report_faults(void);
struct qd_vdev *qd_vdev_new(const struct qd_mem *mem);
void qd_vdev_free(struct qd_vdev *vdev);
struct qd_vq *qd_vdev_add_queue(struct qd_vdev *vdev);
int qd_vq_start(struct qd_vq *vq);
int qd_vq_attach(struct qd_vq *vq, int fd);
void qd_vq_detach(struct qd_vq *vq);
void qd_vq_stop(struct qd_vq *vq);
int qd_vq_move(struct qd_vq *vq, struct qd_loop *loop);
bool qd_vq_kick(struct qd_vq *vq);
void qd_vq_set_irq_fd(struct qd_vq *vq, int fd);
void qd_vq_signal(struct qd_vq *vq);
void qd_vq_fail(struct qd_vq *vq, const char *why);
void qd_vdev_event(struct qd_vdev *vdev, uint64_t bits);
uint64_t qd_vdev_take_events(struct qd_vdev *vdev);
void qd_vdev_set_isr(struct qd_vdev *vdev, uint8_t bits);
uint8_t qd_vdev_read_isr(struct qd_vdev *vdev);
void qd_vdev_set_msix(struct qd_vdev *vdev, bool use_msix);
void qd_vdev_set_intx(struct qd_vdev *vdev, void (*set_intx)(void *opaque, int level), void *opaque);

/* --- qd_tap.h --- */
enum qd_kick { QD_KICK_IOEVENTFD, QD_KICK_SYNC, QD_KICK_POLLED };
enum qd_mark { QD_MARK_SUBMITTED, QD_MARK_COMPLETED };
struct qd_tap {
    void *opaque;
    void (*kicked)(struct qd_tap *tap, struct qd_vq *vq, enum qd_kick way);
    bool (*popped)(struct qd_tap *tap, struct qd_vq *vq, const struct qd_elem *e);
    bool (*pushed)(struct qd_tap *tap, struct qd_vq *vq, uint16_t head, uint32_t *len);
    void (*decided)(struct qd_tap *tap, struct qd_vq *vq, bool *interrupt);
    void (*marked)(struct qd_tap *tap, struct qd_vq *vq, uint16_t head, enum qd_mark stage);
    void (*forgotten)(struct qd_tap *tap, struct qd_vq *vq);
    ...;
};
int qd_vq_add_tap(struct qd_vq *vq, struct qd_tap *tap);
void qd_vq_remove_tap(struct qd_vq *vq, struct qd_tap *tap);
bool qd_vq_complete(struct qd_vq *vq, uint16_t head, uint32_t len);
bool qd_tap_complete(struct qd_vq *vq, uint16_t head, uint32_t len);
bool qd_tap_chain(struct qd_vq *vq, uint16_t head, struct qd_elem *e);
bool qd_vq_hand_over(struct qd_vq *vq, uint16_t head);

/* --- qd_meter.h --- */
#define QD_METER_BUCKETS ...
struct qd_meter { struct qd_tap tap; uint64_t read_bytes, written_bytes; uint64_t buckets[...]; ...; };
void qd_meter_init(struct qd_meter *meter);
unsigned qd_meter_bucket(uint64_t ns);
uint64_t qd_meter_lowest(unsigned bucket);

/* --- qd_space.h --- */
#define QD_PIO ...
#define QD_MMIO ...
#define QD_QUEUE_BY_VALUE ...
#define QD_QUEUE_BY_OFFSET ...
struct qd_space;
struct qd_region_ops {
    uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
    void (*write)(void *opaque, uint64_t offset, uint64_t value, unsigned size);
};
struct qd_space *qd_space_new(void);
void qd_space_free(struct qd_space *space);
int qd_space_map(struct qd_space *space, int bus, uint64_t base, uint64_t size, int priority,
                 const struct qd_region_ops *ops, void *opaque);
int qd_space_map_python(struct qd_space *space, int bus, uint64_t base, uint64_t size, int priority, void *handle);
int qd_space_map_notify(struct qd_space *space, int bus, uint64_t base, uint64_t size, int priority,
                        struct qd_vdev *vdev, int how, uint32_t multiplier, void *handle);
void qd_space_unmap(struct qd_space *space, int id);
uint64_t qd_space_accesses(const struct qd_space *space, int id);
uint64_t qd_space_unanswered(const struct qd_space *space, int bus);
int qd_space_add_eventfd(struct qd_space *space, int bus, uint64_t addr, uint32_t size, bool match, uint64_t value, int fd);
int qd_space_del_eventfd(struct qd_space *space, int bus, uint64_t addr, uint32_t size, bool match, uint64_t value, int fd);
bool qd_space_access(struct qd_space *space, int bus, uint64_t addr, uint64_t *value, unsigned size, bool write);
int qd_space_owner(struct qd_space *space, int bus, uint64_t addr);
void qd_space_lock(struct qd_space *space);
void qd_space_unlock(struct qd_space *space);

/* --- qd_intx.h --- */
struct qd_lines { ...; };
struct qd_intx { struct qd_lines *lines; int gsi; bool level; bool disabled; ...; };
void qd_lines_init(struct qd_lines *lines, void (*set_gsi)(void *opaque, int gsi, int level), void *opaque);
void qd_intx_set(void *opaque, int level);
void qd_intx_route(struct qd_intx *intx, int gsi);
void qd_intx_disable(struct qd_intx *intx, bool disabled);

/* --- qd_kvm.h --- */
enum qd_stop {
    QD_STOP_REQUESTED, QD_STOP_SHUTDOWN, QD_STOP_SYSTEM, QD_STOP_INTERNAL, QD_STOP_FAIL_ENTRY, QD_STOP_UNKNOWN,
    QD_STOP_ERRNO, QD_STOP_DEBUG
};
struct qd_vcpu {
    int fd;
    void *run;
    struct qd_space *space;
    uint64_t detail;
    uint64_t exits_pio, exits_mmio, exits_other;
    ...;
};
int qd_vcpu_init(void);
int qd_vcpu_run(struct qd_vcpu *vcpu);
void qd_vcpu_kick(struct qd_vcpu *vcpu);
void qd_kvm_set_gsi(void *opaque, int gsi, int level);
int qd_kvm_set_tss(int vm_fd, unsigned long address);

/* --- trace.h --- */
struct qd_trace;
struct qd_trace_source;
struct qd_trace *qd_trace_start(int fd, int pid, const char *process);
uint64_t qd_trace_track(struct qd_trace *trace, uint64_t parent, const char *name);
void qd_trace_name(struct qd_trace *trace, uint32_t id, const char *name);
struct qd_trace_source *qd_trace_queue(struct qd_trace *trace, uint64_t parent, const char *name, struct qd_vq *vq);
struct qd_trace_source *qd_trace_vcpu(struct qd_trace *trace, const char *name, struct qd_vcpu *vcpu);
void qd_trace_leave_queue(struct qd_trace_source *source, struct qd_vq *vq);
void qd_trace_leave_vcpu(struct qd_trace_source *source, struct qd_vcpu *vcpu);
int qd_trace_stop(struct qd_trace *trace, uint64_t *events, uint64_t *lost);

/* --- core.h --- */
extern "Python+C" uint64_t qd_py_read(void *handle, uint64_t offset, unsigned size);
extern "Python+C" void qd_py_write(void *handle, uint64_t offset, uint64_t value, unsigned size);
extern "Python+C" void qd_py_set_intx(void *handle, int level);
extern "Python+C" void qd_py_kicked(struct qd_tap *tap, struct qd_vq *vq, enum qd_kick way);
extern "Python+C" bool qd_py_popped(struct qd_tap *tap, struct qd_vq *vq, const struct qd_elem *e);
extern "Python+C" bool qd_py_pushed(struct qd_tap *tap, struct qd_vq *vq, uint16_t head, uint32_t *len);
extern "Python+C" void qd_py_decided(struct qd_tap *tap, struct qd_vq *vq, bool *interrupt);
extern "Python+C" void qd_py_marked(struct qd_tap *tap, struct qd_vq *vq, uint16_t head, enum qd_mark stage);
extern "Python+C" void qd_py_forgotten(struct qd_tap *tap, struct qd_vq *vq);
void qd_vq_count_kick(struct qd_vq *vq, enum qd_kick way);
int qd_vq_setup(struct qd_vq *vq, uint16_t num, uint64_t desc, uint64_t avail, uint64_t used);
void qd_vq_forget(struct qd_vq *vq);
void qd_vdev_set_error(struct qd_vdev *vdev, const char *why);
int qd_vq_pop(struct qd_vq *vq, struct qd_elem *elem, bool kicks);
#define QD_ELEM_WORDS ...
uint32_t qd_elem_words(const struct qd_elem *elem, uint64_t *words);
void qd_vq_push(struct qd_vq *vq, uint16_t head, uint32_t len);
bool qd_vq_publish(struct qd_vq *vq);
#define QD_WAIT_MAX ...
struct qd_wait;
struct qd_wait *qd_wait_new(uint64_t max_ns);
void qd_wait_free(struct qd_wait *wait);
int qd_wait(struct qd_wait *wait, int epoll, int timeout_ms, uint64_t *found);
bool qd_vq_set_kicks(struct qd_vq *vq, bool enabled);
