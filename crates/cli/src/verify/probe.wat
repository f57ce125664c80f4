;; The probe of `wasq verify`: a task that does what the first letter of its params says. Its params are a JSON text such as
;; "t". The functions have the shapes of the canonical ABI.
(module
  (import "wasq:task/context@0.1.0" "attempt" (func $attempt (result i32)))
  ;; task, params: pointer and length; delay, id: option; the result's pointer.
  (import "wasq:task/queue@0.1.0" "enqueue"
    (func $enqueue (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  ;; method, url, headers: pointer and length; body, timeout: option; the result's pointer.
  (import "wasq:task/http@0.1.0" "send"
    (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))

  (memory (export "memory") 1)
  ;; 16: the result of run. 64: the results of the host. 256: texts. From 1024 on: what the host writes.
  (global $top (mut i32) (i32.const 1024))
  (data (i32.const 256) "null")
  (data (i32.const 264) "no JSON")
  (data (i32.const 272) "as wasq verify asked")
  (data (i32.const 296) "an address answered that no task may reach")
  (data (i32.const 344) "wasq-verify")
  (data (i32.const 356) "\22n\22")
  (data (i32.const 360) "GET")
  (data (i32.const 364) "the child was refused")
  (data (i32.const 400) "http://169.254.169.254/latest/meta-data/")
  (data (i32.const 448) "http://127.0.0.1:9001/2018-06-01/runtime/invocation/next")
  (data (i32.const 512) "http://[::1]:9001/2018-06-01/runtime/invocation/next")

  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 15)) (i32.const -16)))
    (global.set $top (i32.add (local.get $at) (local.get $size)))
    (call $reserve (global.get $top))
    (local.get $at))

  ;; Grows the memory until it has this many bytes.
  (func $reserve (param $bytes i32)
    (block $enough
      (br_if $enough (i32.le_u (local.get $bytes) (i32.shl (memory.size) (i32.const 16))))
      (br_if $enough (i32.ge_s (memory.grow (i32.sub
        (i32.shr_u (i32.add (local.get $bytes) (i32.const 65535)) (i32.const 16)) (memory.size))) (i32.const 0)))
      unreachable))

  ;; A result with this text. As a failure it is retry (0) or reject (2); as a success the kind is not read.
  (func $text (param $failed i32) (param $kind i32) (param $at i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 16) (local.get $failed))
    (if (local.get $failed)
      (then
        (i32.store8 (i32.const 20) (local.get $kind))
        (i32.store (i32.const 24) (local.get $at))
        (i32.store (i32.const 28) (local.get $length)))
      (else
        (i32.store (i32.const 20) (local.get $at))
        (i32.store (i32.const 24) (local.get $length))))
    (i32.const 16))

  (func $done (result i32) (call $text (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 4)))
  (func $retry (result i32) (call $text (i32.const 1) (i32.const 0) (i32.const 272) (i32.const 20)))
  (func $reject (result i32) (call $text (i32.const 1) (i32.const 2) (i32.const 272) (i32.const 20)))

  ;; Asks for another attempt after 8 s.
  (func $retry_after (result i32)
    (i32.store8 (i32.const 16) (i32.const 1))
    (i32.store8 (i32.const 20) (i32.const 1))
    (i32.store (i32.const 24) (i32.const 8))
    (i32.store (i32.const 28) (i32.const 272))
    (i32.store (i32.const 32) (i32.const 20))
    (i32.const 16))

  ;; Computes for this many millions of turns.
  (func $burn (param $millions i64)
    (local $left i64)
    (local.set $left (i64.mul (local.get $millions) (i64.const 1000000)))
    (loop $again
      (local.set $left (i64.sub (local.get $left) (i64.const 1)))
      (br_if $again (i64.ne (local.get $left) (i64.const 0)))))

  ;; Sends a GET. Returns whether the policy denied it.
  (func $denied (param $url i32) (param $length i32) (result i32)
    (call $send (i32.const 360) (i32.const 3) (local.get $url) (local.get $length)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 1000) (i32.const 64))
    (i32.and
      (i32.eq (i32.load8_u (i32.const 64)) (i32.const 1))
      (i32.eqz (i32.load8_u (i32.const 72)))))

  (func (export "run") (param $at i32) (param $length i32) (result i32)
    (local $verb i32)
    (local $children i32)
    (local.set $verb (i32.load8_u offset=1 (local.get $at)))
    ;; e: returns its params.
    (if (i32.eq (local.get $verb) (i32.const 0x65))
      (then (return (call $text (i32.const 0) (i32.const 0) (local.get $at) (local.get $length)))))
    ;; t: fails with retry.
    (if (i32.eq (local.get $verb) (i32.const 0x74)) (then (return (call $retry))))
    ;; f: fails with retry in its first attempt.
    (if (i32.eq (local.get $verb) (i32.const 0x66))
      (then (if (i32.lt_u (call $attempt) (i32.const 2)) (then (return (call $retry))))))
    ;; a: in its first attempt, asks for another one after 8 s.
    (if (i32.eq (local.get $verb) (i32.const 0x61))
      (then (if (i32.lt_u (call $attempt) (i32.const 2)) (then (return (call $retry_after))))))
    ;; r: fails with reject.
    (if (i32.eq (local.get $verb) (i32.const 0x72)) (then (return (call $reject))))
    ;; x: traps.
    (if (i32.eq (local.get $verb) (i32.const 0x78)) (then unreachable))
    ;; s: computes for ever.
    (if (i32.eq (local.get $verb) (i32.const 0x73)) (then (loop $again (br $again))))
    ;; m: takes memory until there is no more.
    (if (i32.eq (local.get $verb) (i32.const 0x6d))
      (then (loop $again
        (call $reserve (i32.add (i32.shl (memory.size) (i32.const 16)) (i32.const 65536)))
        (br $again))))
    ;; j: returns what is no JSON.
    (if (i32.eq (local.get $verb) (i32.const 0x6a))
      (then (return (call $text (i32.const 0) (i32.const 0) (i32.const 264) (i32.const 7)))))
    ;; o: returns 2 MiB.
    (if (i32.eq (local.get $verb) (i32.const 0x6f))
      (then
        (call $reserve (i32.const 2097152))
        (return (call $text (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 2097152)))))
    ;; c: enqueues three children.
    (if (i32.eq (local.get $verb) (i32.const 0x63))
      (then
        (local.set $children (i32.const 3))
        (loop $again
          (call $enqueue (i32.const 344) (i32.const 11) (i32.const 356) (i32.const 3)
            (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64))
          (if (i32.load8_u (i32.const 64))
            (then (return (call $text (i32.const 1) (i32.const 2) (i32.const 364) (i32.const 21)))))
          (local.set $children (i32.sub (local.get $children) (i32.const 1)))
          (br_if $again (local.get $children)))))
    ;; d: sends requests that must be denied.
    (if (i32.eq (local.get $verb) (i32.const 0x64))
      (then
        (if (i32.eqz (i32.and (i32.and
            (call $denied (i32.const 400) (i32.const 40))
            (call $denied (i32.const 448) (i32.const 56)))
            (call $denied (i32.const 512) (i32.const 52))))
          (then (return (call $text (i32.const 1) (i32.const 2) (i32.const 296) (i32.const 42)))))))
    ;; b: computes for some hundredths of a second, so that ten of them at once end in time on one processor.
    (if (i32.eq (local.get $verb) (i32.const 0x62)) (then (call $burn (i64.const 30))))
    ;; h: fills 400 MiB, and keeps them for about twenty seconds.
    (if (i32.eq (local.get $verb) (i32.const 0x68))
      (then
        (call $reserve (i32.const 419430400))
        (memory.fill (i32.const 65536) (i32.const 1) (i32.const 419364864))
        (call $burn (i64.const 20000))))
    ;; n, and all that is not above: succeeds with null.
    (call $done))
)
