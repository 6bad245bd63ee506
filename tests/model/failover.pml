/* The lease protocol where clocks run at different rates and the database fails over.
 *
 *   tests/model/check failover            the protocol: no error
 *   tests/model/check failover --mutants  each shortcut: an error
 *
 * As in lease.pml, expert X is withdrawn once; here another policy act may take an epoch too, so
 * that after a failover the same epoch number can stand for other policy. One runner is enough: a
 * second one could only make the coordinator wait for longer, and hold up the policy lock.
 *
 * Clocks: a runner's may stand still for a tick, the coordinator's may count one twice; neither
 * errs again within SPARE ticks. The other directions make everything later or shorter.
 *
 * Failover: at any instant, once, a standby takes over that has any prefix of what was committed.
 * A withdrawal is confirmed to its owner only once the standby has it; renewals and
 * acknowledgements are not waited for, so lease rows may be lost. The old primary is gone. The
 * coordinator counts acknowledgements again once it has seen the new history for a whole wait, in
 * whatever it was doing: a withdrawal's wait and upkeep's are the same clock here (`acks_off`).
 */
#define LEASE 3
#ifdef NO_MARGIN
#define MARGIN 0
#else
#define MARGIN 1
#endif
#define TERM  (LEASE - MARGIN)      /* by the runner's clock */
#define WAIT  (LEASE + MARGIN)      /* by the coordinator's */
#define SPARE 2

byte timeline = 1;
byte policy_epoch = 1, row = 0;     /* what the primary has; row 0: no lease row */
bool x_gone = false;
byte kept_epoch = 1, kept_row = 0;  /* what the standby has */
bool kept_x_gone = false;
byte sharing = 0;

byte applied = 0, seen = 0;         /* the runner: policy epoch it acts on, timeline it knows */
bool applied_x_gone = false;
byte lease_left = 0, asked_ago = 0;
bool asking = false;
byte steady_runner = SPARE, steady_coordinator = SPARE;

bool confirmed = false, waiting = false, quiesced = false;
byte target = 0, wait_left = WAIT, acks_off = 0;

#define MAY_USE_X (applied != 0 && !applied_x_gone && lease_left > 0)
#define COUNT_DOWN(x) if :: x > 0 -> x-- :: else fi
#define COUNT_UP(x, most) if :: x < most -> x++ :: else fi
#define DROP applied = 0; applied_x_gone = false; lease_left = 0
#define AGE COUNT_DOWN(lease_left); if :: asking -> COUNT_UP(asked_ago, TERM) :: else fi
#define COUNT if :: waiting -> COUNT_DOWN(wait_left) :: else fi; COUNT_DOWN(acks_off)
#define REST lease_left == 0 && !asking
#define IDLE !waiting && acks_off == 0

active proctype Clocks() {
  do
  :: atomic {
       if
       :: REST -> steady_runner = SPARE
       :: !(REST) && steady_runner == SPARE -> steady_runner = 0          /* it stands still */
       :: !(REST) -> COUNT_UP(steady_runner, SPARE); AGE
       fi;
       if
       :: IDLE -> steady_coordinator = SPARE
       :: !(IDLE) && steady_coordinator == SPARE -> steady_coordinator = 0; COUNT; COUNT
       :: !(IDLE) -> COUNT_UP(steady_coordinator, SPARE); COUNT
       fi
     }
  od
}

active proctype Replication() {
  do
  :: d_step {
       timeline == 1 ->
       kept_epoch = policy_epoch; kept_x_gone = x_gone; kept_row = row
     }
  :: d_step {                                         /* failover */
       timeline == 1 ->
       assert(!confirmed || kept_x_gone);             /* what the owner was told is not forgotten */
       timeline = 2;
       policy_epoch = kept_epoch; x_gone = kept_x_gone; row = kept_row;
       sharing = 0;
#ifndef ACKS_AFTER_FAILOVER
       acks_off = WAIT;
#endif
       kept_epoch = 0; kept_x_gone = false; kept_row = 0
     } -> break
  od
}

active proctype AnotherAct() {
  atomic { sharing == 0 && policy_epoch < 3 -> policy_epoch++ }
}

active proctype Renewal() {
  byte found = 0, at = 0;
  bool found_x_gone = false;
  do
  :: d_step { asking = true; asked_ago = 0; at = timeline }               /* R1 */
     if
     :: d_step { timeline == at -> sharing++ }                            /* R2a */
        if
        :: d_step {                                                       /* R2b, R2c */
             timeline == at ->
             found = policy_epoch; found_x_gone = x_gone;
             if
             :: row == 0 && applied == 0 -> row = policy_epoch
             :: applied > row && applied <= policy_epoch -> row = applied
             :: else
             fi;
             sharing--
           }
        :: timeline != at
        fi
     :: timeline != at                                /* the server is gone: nothing comes back */
#ifdef OLD_PRIMARY_GRANTS
     :: d_step { timeline == 2 && seen < 2 -> at = 1; found = 1 }
#endif
     fi;
     if
     :: skip                                                              /* no reply */
     :: d_step {
          found != 0 ->                                                   /* R3 */
          if
#ifndef NUMBER_ALONE
          :: seen != 0 && at != seen -> DROP           /* another history: hold nothing of it */
#endif
          :: (seen == 0 || at == seen) && found < applied -> DROP
          :: else ->
#ifdef NUMBER_ALONE
             if
             :: found != applied -> applied_x_gone = found_x_gone
             :: else                                   /* "I have that one already" */
             fi;
#else
             applied_x_gone = found_x_gone;
#endif
             applied = found;
             lease_left = TERM - asked_ago
          fi;
          seen = at
        }
        if                                                                /* R4, to any server */
        :: d_step { applied != 0 && found > row && found <= policy_epoch -> row = found }
        :: else
        fi
     fi;
     d_step { asking = false; asked_ago = 0; found = 0; found_x_gone = false; at = 0 }
  od
}

active proctype Decoding() {
  do
  :: MAY_USE_X ->
     if
     :: d_step { MAY_USE_X -> assert(!quiesced) }
     :: !MAY_USE_X
     fi
  od
}

active proctype Withdrawal() {
  byte at = 0;
  do
  :: x_gone -> break                                  /* pressed again: it is there already */
  :: d_step {
       sharing == 0 && !x_gone && policy_epoch < 4 ->
       policy_epoch++; x_gone = true; at = timeline
     }
#ifndef ASYNCHRONOUS_COMMIT
     if
     :: at == 2 || kept_x_gone || timeline != at      /* the standby has it, or it is unknown */
     fi
#endif
     if
     :: timeline == at -> break
     :: timeline != at
     fi
  od;
  atomic { confirmed = true; target = policy_epoch; waiting = true; at = 0 }
  do
  :: d_step { waiting && wait_left < WAIT -> wait_left = WAIT }           /* another takes over */
  :: d_step {
       wait_left == 0 || (acks_off == 0 && (row == 0 || row >= target)) ->
       quiesced = true; waiting = false; wait_left = 0
     } -> break
  od
}
