/* The lease protocol of policy, for Spin: two runners, one withdrawal, lost replies, any pause.
 *
 * Expert X may be used in policy epoch 1 and is withdrawn in epoch 2. `quiesced` is what the
 * certificate says: from now on nothing made with X leaves. The assertion is that this is true.
 *
 *   docs/spin/check            the protocol: no error
 *   docs/spin/check --mutants  each shortcut: an error
 *
 * Not modelled: clocks of different rates (the margin on the lease covers them) and a database
 * that forgets (an older policy epoch than one seen drops the lease).
 */
#define LEASE   2           /* lease length in ticks */
#define TICKS   5           /* how long time goes on */
#define RENEWALS 2          /* how often each runner renews */
#define RUNNERS 2
#define NONE    99

byte now = 0;
byte policy_epoch = 1;
byte committed_at = NONE;
byte sharing = 0;           /* renewals that hold the policy lock shared */
bool withdrawing = false;   /* the withdrawal holds it alone */
bool quiesced = false;

byte row[RUNNERS];          /* the lease row: epoch applied, 0 where there is no row yet */
byte applied[RUNNERS];      /* what the runner acts on, 0 for nothing */
byte deadline[RUNNERS];

#define MAY_USE_X(r) (applied[r] == 1 && now < deadline[r])

proctype Clock() {
  do
  :: now < TICKS -> now++
  :: now == TICKS -> break
  od
}

proctype Renewal(byte r) {
  byte asked_at, found, times = 0;
  do
  :: times < RENEWALS ->
     times++;
     asked_at = now;                              /* R1: before the request leaves */
#ifndef NO_SHARED_LOCK
     atomic { !withdrawing -> sharing++ }         /* R2a: a statement of its own */
#endif
     found = policy_epoch;                        /* R2b */
     atomic {                                     /* R2c: the epoch applied, not the one found */
#ifdef EARLY_ACK
       row[r] = found
#else
       if
       :: applied[r] == 0 -> row[r] = found
       :: else -> row[r] = applied[r]
       fi
#endif
     }
#ifndef NO_SHARED_LOCK
     sharing--;
#endif
     if
     :: skip                                      /* the reply is lost */
     :: atomic {                                  /* R3: one assignment swaps both */
          applied[r] = found;
#ifdef DEADLINE_FROM_REPLY
          deadline[r] = now + LEASE
#else
          deadline[r] = asked_at + LEASE
#endif
        }
        row[r] = found                            /* R4: only then */
     fi
  :: times == RENEWALS -> break
  od
}

proctype Decoding(byte r) {
  do
  :: atomic { MAY_USE_X(r) -> skip }              /* D1, D2 */
     /* D3: computing; anything may happen here */
     if
#ifdef NO_CHECK_AFTER
     :: assert(!quiesced)
#else
#ifdef NO_EPOCH_IN_CHECK
     :: atomic { now < deadline[r] -> assert(!quiesced) }
     :: atomic { now >= deadline[r] -> skip }
#else
     :: atomic { MAY_USE_X(r) -> assert(!quiesced) }   /* D4: the token leaves */
     :: atomic { !MAY_USE_X(r) -> skip }               /* or is thrown away */
#endif
#endif
     fi
  :: now == TICKS -> break
  od
}

proctype Withdrawal() {
  byte r;
#ifdef NO_SHARED_LOCK
  policy_epoch = 2;
  committed_at = now;
#else
  atomic { !withdrawing -> withdrawing = true }
  sharing == 0;
  policy_epoch = 2;
  atomic { committed_at = now; withdrawing = false }
#endif
  do
  :: atomic { (row[0] == 0 || row[0] == 2) && (row[1] == 0 || row[1] == 2) -> quiesced = true };
     break
  :: atomic { now >= committed_at + LEASE -> quiesced = true };
     break
  od
}

init {
  atomic {
    run Clock();
    run Withdrawal();
    run Renewal(0); run Decoding(0);
    run Renewal(1); run Decoding(1)
  }
}
