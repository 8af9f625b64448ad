/* The protocol of the page (docs/architecture.md) as uwsgi_waffle/process has it, for spin.

   Writers, processes that serve requests, deaths at any step, and a database that may commit after
   its client died. Words are read in any order. No one takes an exclusive lock; anyone closes.
   Checked: no request sees less than what anyone had seen or been told before it began.
   Not in it: a page that is replaced, threads in one process, a store that goes back.

     make model                 small: three searches to their end, and four mutants to catch
     make model MODEL=whole     one writer, three serving processes: 20 GB

   By -D: W writers, R1 to R3 requests of each serving process, ND deaths, LATE commits after a
   death, ELSEWHERE
   changes of other hosts, READS before a process marks in spite of what others marked meanwhile.
   Mutants, each a rule reversed: SEQLAST (the identity before the seq), GRANTOPEN (a ticket is
   shared though the page was open), NOLOCK (closing without asking for the lock), OWNSEQ (a process
   takes the seq that it wrote itself for seen). */
#ifndef W
#define W 1
#endif
#ifndef R1
#define R1 1
#define R2 2
#define R3 0
#endif
#ifndef ND
#define ND 1
#endif
#ifndef LATE
#define LATE 1
#endif
#ifndef ELSEWHERE
#define ELSEWHERE 0
#endif
#ifndef READS
#define READS 2
#endif
byte store = 0, opened = 0, closed = 0, seq = 0, id = 0;
byte uniq = 0;      /* stands for os.urandom */
byte least_ = 0;    /* what anyone has seen or been told */
byte held = 0;      /* shared locks */
byte pending = ELSEWHERE, deaths = 0;

#define MAYDIE(cleanup) \
  if :: true :: d_step { deaths < ND -> deaths++; cleanup; dead = 1 } fi; \
  if :: dead -> goto gone :: else fi

/* Page.words() */
#define WORDS(o, c, s) \
  if :: o = opened; c = closed; s = seq \
     :: c = closed; s = seq; o = opened \
     :: s = seq; c = closed; o = opened fi

/* Page.close_if_unused() */
#ifdef NOLOCK
#define CLOSE(t) t = opened; none = true; closed = t
#else
#define CLOSE(t) t = opened; none = (held == 0); if :: none -> closed = t :: else fi
#endif

proctype Writer() {
  bool dead = 0, none = 0; byte v = 0, t = 0, mine = 0;
  held++;                                                 /* PageChange: lock */
  d_step { uniq++; opened = uniq }; MAYDIE(held--);       /* before_commit */
  if
  :: d_step { store++; mine = store }
  :: d_step { LATE && deaths < ND -> deaths++; pending++; held-- }; goto gone
  fi;
  MAYDIE(held--);
  if :: v = store :: v = mine fi;                         /* Refresher._read, within it */
  if :: id != v -> id = v :: else fi;
  MAYDIE(held--);
  held--;                                                 /* PageChange.end */
  CLOSE(t);
  d_step { if :: v > least_ -> least_ = v :: else fi; v = 0; t = 0; mine = 0 }
gone: skip
}

proctype Server() { end: do :: d_step { pending > 0 -> pending--; store++ } od }

proctype Reader(byte requests) {
  /* The words that are vouched for, with the snapshot that belongs to them. */
  byte so = 255, sc = 255, ss = 255, snap = 0;
  byte o = 0, c = 0, s = 0, o2 = 0, c2 = 0, s2 = 0, v = 0, least = 0, n = 0, reads = 0;
  bool dead = 0, none = 0;
  do
  :: n < requests ->
     d_step { n++; least = least_ };
     WORDS(o, c, s);
     if
     :: o == so && c == sc && s == ss -> v = snap
     :: else ->
again:  reads++;
        v = store;
        if
        :: v != id ->
           WORDS(o2, c2, s2);
           if
           :: (o2 != o || c2 != c || s2 != s) && reads < READS ->
              WORDS(o, c, s);
              goto again
           :: else
           fi;
#ifdef SEQLAST
           id = v; MAYDIE(skip);
           d_step { uniq++; seq = uniq }
#else
           d_step { uniq++; seq = uniq }; MAYDIE(skip);
           id = v
#endif
#ifdef OWNSEQ
           ; s = uniq
#endif
        :: else
        fi;
        snap = v;
        if
#ifdef GRANTOPEN
        :: true -> d_step { so = o; sc = c; ss = s }
#else
        :: o == c -> d_step { so = o; sc = c; ss = s }
        :: else -> d_step { so = 255; sc = 255; ss = 255 }; CLOSE(o2)
#endif
        fi
     fi;
     assert(v >= least);
     d_step {
       if :: v > least_ -> least_ = v :: else fi;
       v = 0; least = 0; o = 0; c = 0; s = 0; o2 = 0; c2 = 0; s2 = 0; none = 0; reads = 0
     }
  :: n >= requests -> break
  od;
gone: skip
}

init { atomic {
  if :: W > 0 -> run Writer() :: else fi; if :: W > 1 -> run Writer() :: else fi;
  run Reader(R1); run Reader(R2); if :: R3 > 0 -> run Reader(R3) :: else fi;
  if :: LATE || ELSEWHERE -> run Server() :: else fi
} }
