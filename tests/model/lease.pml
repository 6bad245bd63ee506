/* The lease protocol of policy, for Spin: two runners, one withdrawal, lost replies, any pause,
 * any number of renewals, time without end.
 *
 * Expert X may be used in policy epoch 1 and is withdrawn in epoch 2. `quiesced` is what the
 * certificate says: from now on nothing made with X leaves. The assertion is that this is true.
 *
 *   tests/model/check lease            the protocol: no error
 *   tests/model/check lease --mutants  each shortcut: an error
 *
 * Times are kept as what is left of them, so that no state remembers how late it is: the search is
 * complete for histories of any length. Not modelled here: clocks of different rates and a database
 * that fails over (failover.pml).
 */
#define LEASE   2           /* lease length in ticks */
#define RUNNERS 2

byte policy_epoch = 1;
byte sharing = 0;           /* renewals that hold the policy lock shared */
bool withdrawing = false;   /* the withdrawal holds it alone */
bool waiting = false;       /* committed: the coordinator waits */
byte wait_left = LEASE;
bool quiesced = false;

byte row[RUNNERS];          /* the lease row: epoch applied, 0 where there is no row yet */
byte applied[RUNNERS];      /* what the runner acts on, 0 for nothing */
byte lease_left[RUNNERS];   /* until its deadline, 0 for no lease */
bool asking[RUNNERS];
byte asked_ago[RUNNERS];    /* since R1; a whole lease or more is the same */

#define MAY_USE_X(r) (applied[r] == 1 && lease_left[r] > 0)
#define COUNT_DOWN(x) if :: x > 0 -> x-- :: else fi

#define AGE(r) \
  COUNT_DOWN(lease_left[r]); \
  if :: asking[r] && asked_ago[r] < LEASE -> asked_ago[r]++ :: else fi

active proctype Clock() {
  do
  :: d_step {
       AGE(0); AGE(1);
       if :: waiting -> COUNT_DOWN(wait_left) :: else fi
     }
  od
}

proctype Renewal(byte r) {
  byte found;
  do
  :: d_step { asking[r] = true; asked_ago[r] = 0 }   /* R1: before the request leaves */
#ifndef NO_SHARED_LOCK
     atomic { !withdrawing -> sharing++ }            /* R2a: a statement of its own */
#endif
     found = policy_epoch;                           /* R2b */
     d_step {                                        /* R2c: the epoch applied, not the one found */
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
     :: d_step { asking[r] = false; asked_ago[r] = 0; found = 0 }   /* the reply is lost */
     :: d_step {                                     /* R3: one assignment swaps both */
          applied[r] = found;
#ifdef DEADLINE_FROM_REPLY
          lease_left[r] = LEASE;
#else
          lease_left[r] = LEASE - asked_ago[r];
#endif
          asking[r] = false; asked_ago[r] = 0
        }
        d_step { row[r] = found; found = 0 }         /* R4: only then */
     fi
  od
}

proctype Decoding(byte r) {
  do
  :: MAY_USE_X(r) ->                                 /* D1, D2 */
     /* D3: computing; anything may happen here */
     if
#ifdef NO_CHECK_AFTER
     :: assert(!quiesced)
#else
#ifdef NO_EPOCH_IN_CHECK
     :: d_step { lease_left[r] > 0 -> assert(!quiesced) }
     :: lease_left[r] == 0
#else
     :: d_step { MAY_USE_X(r) -> assert(!quiesced) } /* D4: the token leaves */
     :: !MAY_USE_X(r)                                /* or is thrown away */
#endif
#endif
     fi
  od
}

proctype Withdrawal() {
#ifdef NO_SHARED_LOCK
  policy_epoch = 2;
  waiting = true;
#else
  atomic { !withdrawing -> withdrawing = true }
  sharing == 0;
  policy_epoch = 2;
  d_step { waiting = true; withdrawing = false }
#endif
  d_step {
    wait_left == 0 || ((row[0] == 0 || row[0] == 2) && (row[1] == 0 || row[1] == 2)) ->
    quiesced = true; waiting = false; wait_left = 0
  }
}

init {
  atomic {
    run Withdrawal();
    run Renewal(0); run Decoding(0);
    run Renewal(1); run Decoding(1)
  }
}
