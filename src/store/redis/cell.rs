//! Cells. The rules are [`crate::store::cell::CellTable`]'s, said once more in scripts (`cell_*.lua`). A cell's keys:
//!
//! | key, after `{mqs:c:<cell>}` | type | content |
//! |---|---|---|
//! | `:meta` | HASH | epoch, seq and its epoch, cursor, clock, last positions, whether a rewrite has begun |
//! | `:lead` | HASH | who leads, in which epoch, until when |
//! | `:st` | HASH | records: name → text |
//! | `:q:<queue>` | ZSET | calls; score = [`crate::store::cell::Place::score`] |
//! | `:qs` | ZSET | the names of the queues; score = 0 |
//! | `:tok` | HASH | offer → epoch, leg |
//! | `:in`, `:ev` | STREAM | inbox, outbox; id = position |
//! | `:k:<hash>` | STRING | a command's key: its position |
//! | `:grp` | HASH | group → position |
//! | `:reg` | HASH | proxy and address-of-record → end, time, whether it is over, CSeq, Call-ID |
//! | `:regx` | ZSET | the same names; score = end |

use super::cell_batch::Folded;
use super::conn::{Call, Reply, Script};
use super::{RedisStore, TRIES, all};
use crate::domain::id::{CellId, QueueId};
use crate::domain::time::EpochMs;
use crate::store::cell::{
    Accepted, Batch, Candidate, CellStore, Committed, ENDED_KEPT_MS, INBOX_MAX, Image, KEY_KEPT_MS, Leader,
    Leadership, Look, Opened, Position, REGISTRATION_GRACE_MS, Redeemed, Register, Registration, Sent, Told,
    check,
};
use crate::store::{Store as _, StoreError};
use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use tracing::warn;

/// Things that one command reads at most: nobody else is served meanwhile.
const CHUNK: usize = 1000;

/// How much of a name that makes no sense is shown, in characters.
const SHOWN_MAX: usize = 100;

/// Registrations that are over which one REGISTER takes out at most.
const OVER_MAX: u32 = 100;

pub(super) struct Scripts {
    lead: Script,
    resign: Script,
    open: Script,
    commit: Script,
    redeem: Script,
    send: Script,
    told: Script,
    register: Script,
    unregister: Script,
}

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(
            include_str!("common.lua"),
            "\n",
            include_str!("cell_common.lua"),
            "\n",
            include_str!(concat!("cell_", $name, ".lua"))
        ))
    };
}

impl Scripts {
    pub(super) fn new() -> Scripts {
        Scripts {
            lead: script!("lead"),
            resign: script!("resign"),
            open: script!("open"),
            commit: script!("commit"),
            redeem: script!("redeem"),
            send: script!("send"),
            told: script!("told"),
            register: script!("register"),
            unregister: script!("unregister"),
        }
    }
}

fn key(cell: &CellId, name: &str) -> String {
    format!("{{mqs:c:{cell}}}:{name}")
}

fn keys<const N: usize>(cell: &CellId, names: [&str; N]) -> [String; N] {
    names.map(|name| key(cell, name))
}

fn unexpected(op: &'static str, cell: &CellId, name: &str, reply: &Reply) -> StoreError {
    let cause: String = format!("unexpected reply {reply:?}").chars().take(200).collect();
    StoreError::Damaged { op, key: key(cell, name), cause }
}

fn number(reply: &Reply) -> Option<u64> {
    u64::try_from(reply.int()?).ok()
}

impl RedisStore {
    /// The image without its records, and how many those are.
    async fn fence(&self, cell: &CellId, epoch: u64) -> Result<(Opened, u64), StoreError> {
        let keys = keys(cell, ["meta", "st"]);
        let mut call = Call::new(&self.scripts.cell.open, keys.iter());
        call.number(epoch);
        let reply = self.conn.run("open", call).await?;
        opened(&reply).ok_or_else(|| unexpected("open", cell, "meta", &reply))
    }

    /// All fields of a hash. One that changes meanwhile may be there as before or as after.
    async fn scan(
        &self,
        op: &'static str,
        cell: &CellId,
        name: &str,
    ) -> Result<BTreeMap<String, String>, StoreError> {
        let (mut found, mut cursor) = (BTreeMap::new(), "0".to_owned());
        loop {
            let mut cmd = redis::cmd("HSCAN");
            cmd.arg(key(cell, name)).arg(&cursor).arg("COUNT").arg(CHUNK);
            let reply = self.conn.query(op, cmd).await?;
            let Some([next, Reply::List(pairs)]) = reply.list() else {
                return Err(unexpected(op, cell, name, &reply));
            };
            for pair in pairs.chunks(2) {
                let read = match pair {
                    [field, value] => field.lossy().zip(value.lossy()),
                    _ => None,
                };
                let (field, value) =
                    read.ok_or_else(|| unexpected(op, cell, name, &Reply::List(pair.into())))?;
                found.insert(field, value);
            }
            cursor = next.text().ok_or_else(|| unexpected(op, cell, name, next))?.to_owned();
            if cursor == "0" {
                return Ok(found);
            }
        }
    }

    /// The entries of a stream behind a position; those that cannot be read are left out.
    async fn entries<T>(
        &self,
        op: &'static str,
        (cell, name): (&CellId, &str),
        after: Position,
        limit: usize,
        read: impl Fn(Position, &[Reply]) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let (mut found, mut after) = (Vec::new(), after.0);
        while found.len() < limit {
            let most = CHUNK.min(limit - found.len());
            let mut cmd = redis::cmd("XRANGE");
            let begin = format!("{}-0", after.saturating_add(1));
            cmd.arg(key(cell, name)).arg(begin).arg("+").arg("COUNT").arg(most);
            let reply = self.conn.query(op, cmd).await?;
            let rows = reply.list().ok_or_else(|| unexpected(op, cell, name, &reply))?;
            for row in rows {
                let (at, fields) = position(row).ok_or_else(|| unexpected(op, cell, name, row))?;
                after = at.0;
                found.extend(read(at, fields));
            }
            if rows.len() < most {
                break;
            }
        }
        Ok(found)
    }

    /// Fields of a hash that are numbers, or words.
    async fn fields<const N: usize>(
        &self,
        op: &'static str,
        cell: &CellId,
        name: &str,
        fields: [&str; N],
    ) -> Result<[Option<String>; N], StoreError> {
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(key(cell, name)).arg(&fields);
        let reply = self.conn.query(op, cmd).await?;
        let values = reply.list().map(|all| all.iter().map(|one| one.text().map(str::to_owned)).collect());
        let values: Option<Vec<Option<String>>> = values;
        values.and_then(|all| all.try_into().ok()).ok_or_else(|| unexpected(op, cell, name, &reply))
    }

    /// The registrations that are not over at `now`, and those that cannot be read.
    async fn registered(
        &self,
        op: &'static str,
        cell: &CellId,
    ) -> Result<(EpochMs, Vec<Registration>, Vec<(String, String)>), StoreError> {
        let all = self.scan(op, cell, "reg").await?;
        let now = self.now().await?;
        let (mut live, mut damaged) = (Vec::with_capacity(all.len()), Vec::new());
        for (name, saved) in all {
            match registration(&name, &saved) {
                Some((one, ended)) if !ended && one.until > now => live.push(one),
                Some(_) => {}
                // Of a name that is no text only the bytes would help, and nobody asks for it.
                None if name.contains(char::REPLACEMENT_CHARACTER) => {}
                None => damaged.push((name, saved)),
            }
        }
        Ok((now, live, damaged))
    }

    async fn texts(
        &self,
        op: &'static str,
        cell: &CellId,
        name: &str,
        most: usize,
    ) -> Result<Vec<String>, StoreError> {
        let last = i64::try_from(most).unwrap_or(i64::MAX) - 1;
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(key(cell, name)).arg(0).arg(last);
        let reply = self.conn.query(op, cmd).await?;
        let texts =
            reply.list().and_then(|all| all.iter().map(|one| one.text().map(str::to_owned)).collect());
        texts.ok_or_else(|| unexpected(op, cell, name, &reply))
    }

    async fn try_commit(&self, cell: &CellId, batch: &Batch) -> Result<Option<Committed>, StoreError> {
        const OP: &str = "commit";
        let there = if batch.rewrite.is_some_and(|rewrite| rewrite.first) {
            self.texts(OP, cell, "qs", usize::MAX).await?
        } else {
            Vec::new()
        };
        let mut folded = Folded::new(batch);
        folded.delete_queues(&there);
        let mut keys = Vec::from(keys(cell, ["meta", "st", "qs", "tok", "in", "ev"]));
        keys.extend(folded.queues().map(|queue| key(cell, &format!("q:{queue}"))));
        let reply = self.conn.run(OP, folded.call(&self.scripts.cell.commit, &keys)).await?;
        if reply.text() == Some("Q") {
            return Ok(None);
        }
        committed(&reply).map(Some).ok_or_else(|| unexpected(OP, cell, "meta", &reply))
    }
}

#[async_trait]
impl CellStore for RedisStore {
    async fn lead(&self, cell: &CellId, candidate: &Candidate) -> Result<Leadership, StoreError> {
        check::candidate(candidate)?;
        let keys = keys(cell, ["lead", "meta"]);
        let mut call = Call::new(&self.scripts.cell.lead, keys.iter());
        call.text(&candidate.holder).number(candidate.epoch).number(candidate.ttl_ms);
        call.number(u8::from(candidate.may_found)).number(u8::from(candidate.anew));
        let reply = self.conn.run("lead", call).await?;
        leadership(&reply).ok_or_else(|| unexpected("lead", cell, "lead", &reply))
    }

    async fn resign(&self, cell: &CellId, holder: &str, epoch: u64) -> Result<bool, StoreError> {
        let keys = keys(cell, ["lead"]);
        let mut call = Call::new(&self.scripts.cell.resign, keys.iter());
        call.text(holder).number(epoch);
        let reply = self.conn.run("resign", call).await?;
        reply.int().map(|held| held == 1).ok_or_else(|| unexpected("resign", cell, "lead", &reply))
    }

    async fn open(&self, cell: &CellId, epoch: u64, read: bool) -> Result<Opened, StoreError> {
        check::epoch("open", epoch)?;
        let (before, count) = self.fence(cell, epoch).await?;
        let Opened::Here(image) = before else { return Ok(before) };
        if !read {
            return Ok(Opened::Here(image));
        }
        let records = self.scan("open", cell, "st").await?;
        // Nobody but this leader could have written meanwhile, unless there is a newer one, or another server.
        match self.fence(cell, epoch).await? {
            (fenced @ Opened::Fenced { .. }, _) => Ok(fenced),
            (Opened::Here(after), after_count)
                if after == image
                    && after_count == count
                    && usize::try_from(count).is_ok_and(|count| count == records.len()) =>
            {
                Ok(Opened::Here(Image { records: records.into_iter().collect(), ..image }))
            }
            (Opened::Here(_), _) => {
                let cause = "the cell was changed, or the server replaced, while it was read".to_owned();
                Err(StoreError::Refused { op: "open", cause })
            }
        }
    }

    async fn commit(&self, cell: &CellId, batch: &Batch) -> Result<Committed, StoreError> {
        check::batch(batch)?;
        for _ in 0..TRIES {
            if let Some(said) = self.try_commit(cell, batch).await? {
                return Ok(said);
            }
        }
        let cause = format!("the queues changed {TRIES} times meanwhile");
        Err(StoreError::Refused { op: "commit", cause })
    }

    async fn redeem(&self, cell: &CellId, offer: &str, leg: &str) -> Result<Redeemed, StoreError> {
        check::name("redeem", "the offer", offer)?;
        check::name("redeem", "the leg", leg)?;
        let keys = keys(cell, ["meta", "tok"]);
        let mut call = Call::new(&self.scripts.cell.redeem, keys.iter());
        call.text(offer).text(leg);
        let reply = self.conn.run("redeem", call).await?;
        match reply.text() {
            Some("Y") => Ok(Redeemed::Yes),
            Some("A") => Ok(Redeemed::Again),
            Some("U") => Ok(Redeemed::Used),
            Some("S") => Ok(Redeemed::Stale),
            Some("N") => Ok(Redeemed::Unknown),
            Some(_) | None => Err(unexpected("redeem", cell, "tok", &reply)),
        }
    }

    async fn send(&self, cell: &CellId, key: &str, text: &str) -> Result<Accepted, StoreError> {
        check::name("send", "the key", key)?;
        let hash: String = Sha256::digest(key).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let keys = keys(cell, ["meta", "in", &format!("k:{hash}")]);
        let mut call = Call::new(&self.scripts.cell.send, keys.iter());
        call.text(key).text(text).number(INBOX_MAX).number(KEY_KEPT_MS);
        let reply = self.conn.run("send", call).await?;
        accepted(&reply).ok_or_else(|| unexpected("send", cell, "in", &reply))
    }

    async fn inbox(&self, cell: &CellId, after: Position, limit: usize) -> Result<Vec<Sent>, StoreError> {
        let read = |fields: &[Reply]| match fields {
            [_, key, _, text] => key.lossy().zip(text.lossy()),
            _ => None,
        };
        // What is no command is answered as such: whatever stands behind it is not held up.
        let read = |position: Position, fields: &[Reply]| {
            let (key, text) = read(fields).unwrap_or_else(|| (format!("odd-{}", position.0), String::new()));
            Some(Sent { position, key, text })
        };
        self.entries("inbox", (cell, "in"), after, limit, read).await
    }

    async fn outbox(&self, cell: &CellId, after: Position, limit: usize) -> Result<Vec<Told>, StoreError> {
        let read = |position, fields: &[Reply]| match fields {
            [_, text] => Some(Told { position, text: text.text()?.to_owned() }),
            _ => None,
        };
        self.entries("outbox", (cell, "ev"), after, limit, read).await
    }

    async fn told(&self, cell: &CellId, group: &str) -> Result<Position, StoreError> {
        check::name("told", "the group", group)?;
        let mut cmd = redis::cmd("HGET");
        cmd.arg(key(cell, "grp")).arg(group);
        let reply = self.conn.query("told", cmd).await?;
        if reply == Reply::Other {
            return Ok(Position::default());
        }
        let position = reply.text().and_then(|text| text.parse().ok()).map(Position);
        position.ok_or_else(|| unexpected("told", cell, "grp", &reply))
    }

    async fn acknowledge(&self, cell: &CellId, group: &str, upto: Position) -> Result<(), StoreError> {
        check::name("acknowledge", "the group", group)?;
        check::number("acknowledge", "position", upto.0)?;
        let keys = keys(cell, ["grp"]);
        let mut call = Call::new(&self.scripts.cell.told, keys.iter());
        call.text(group).number(upto.0);
        self.conn.run("acknowledge", call).await.map(|_| ())
    }

    async fn register(&self, cell: &CellId, register: &Register) -> Result<(), StoreError> {
        check::register(register)?;
        let ended = register.expires_ms == 0;
        let kept =
            if ended { ENDED_KEPT_MS } else { register.expires_ms.saturating_add(REGISTRATION_GRACE_MS) };
        let keys = keys(cell, ["reg", "regx"]);
        let mut call = Call::new(&self.scripts.cell.register, keys.iter());
        call.text(&format!("{} {}", register.proxy, register.aor)).text(&register.call_id);
        call.number(register.cseq).number(kept).number(u8::from(ended)).number(OVER_MAX);
        self.conn.run("register", call).await.map(|_| ())
    }

    async fn registrations(&self, cell: &CellId) -> Result<Vec<Registration>, StoreError> {
        const OP: &str = "registrations";
        let (_, live, damaged) = self.registered(OP, cell).await?;
        let keys = keys(cell, ["reg"]);
        for (name, saved) in damaged {
            // The phone's next REGISTER writes it anew, and may have done so by now.
            let mut call = Call::new(&self.scripts.cell.unregister, keys.iter());
            call.text(&name).text(&saved);
            if matches!(self.conn.run(OP, call).await?, Reply::Int(1)) {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(SHOWN_MAX).collect();
                warn!(%cell, name = shown, "a registration that cannot be read is taken out");
            }
        }
        Ok(live)
    }

    async fn look(&self, cell: &CellId) -> Result<Look, StoreError> {
        const OP: &str = "look";
        const META: [&str; 6] = ["epoch", "seq", "cursor", "sent", "told", "partial"];
        // In pieces, so that nobody waits while thousands of calls are read. The positions come first: what is told after them
        // may be in the records already, and nothing is missing from both.
        let [epoch, seq, cursor, sent, told, partial] = self.fields(OP, cell, "meta", META).await?;
        let [holder, granted, ends] = self.fields(OP, cell, "lead", ["holder", "epoch", "until"]).await?;
        let records = self.scan(OP, cell, "st").await?;
        let (now, registrations, _) = self.registered(OP, cell).await?;
        let digits = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
        let (granted, ends) = (digits(granted), EpochMs(digits(ends)));
        Ok(Look {
            now,
            leader: holder.map(|holder| Leader { holder, epoch: granted, left_ms: ends.since(now) }),
            epoch: digits(epoch),
            seq: digits(seq),
            cursor: Position(digits(cursor)),
            sent: Position(digits(sent)),
            told: Position(digits(told)),
            whole: partial.as_deref() != Some("1"),
            records: records.into_iter().collect(),
            registrations,
        })
    }

    async fn queue(&self, cell: &CellId, queue: &QueueId, limit: usize) -> Result<Vec<String>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.texts("queue", cell, &format!("q:{queue}"), limit).await
    }
}

fn leadership(reply: &Reply) -> Option<Leadership> {
    let parts = reply.list()?;
    let time = |reply: &Reply| number(reply).map(EpochMs);
    Some(match (parts.first()?.text()?, parts.get(1..)?) {
        ("Y", [epoch, now]) => Leadership::Yours { epoch: number(epoch)?, now: time(now)? },
        ("T", [holder, left, now]) => {
            Leadership::Theirs { holder: holder.text()?.to_owned(), left_ms: number(left)?, now: time(now)? }
        }
        ("U", [now]) => Leadership::Unknown { now: time(now)? },
        (_, _) => return None,
    })
}

fn opened(reply: &Reply) -> Option<(Opened, u64)> {
    let parts = reply.list()?;
    let numbers: Vec<u64> = parts.get(1..)?.iter().map(number).collect::<Option<_>>()?;
    Some(match (parts.first()?.text()?, numbers.as_slice()) {
        ("F", [epoch]) => (Opened::Fenced { epoch: *epoch }, 0),
        ("H", [before, seq, cursor, clock, whole, count]) => {
            let image = Image {
                before: *before,
                seq: *seq,
                cursor: Position(*cursor),
                clock: EpochMs(*clock),
                records: Vec::new(),
                whole: *whole == 1,
            };
            (Opened::Here(image), *count)
        }
        (_, _) => return None,
    })
}

fn committed(reply: &Reply) -> Option<Committed> {
    if let Some(said) = reply.text() {
        return match said {
            "D" => Some(Committed::Done),
            "R" => Some(Committed::Repeated),
            _ => None,
        };
    }
    match all(reply, 2, |part| Some(part.clone()))?.as_slice() {
        [said, of] if said.text() == Some("F") => Some(Committed::Fenced { epoch: number(of)? }),
        [said, of] if said.text() == Some("G") => Some(Committed::Gap { seq: number(of)? }),
        _ => None,
    }
}

fn accepted(reply: &Reply) -> Option<Accepted> {
    let parts = reply.list()?;
    Some(match (parts.first()?.text()?, parts.get(1)) {
        ("N", Some(at)) => Accepted::New(Position(number(at)?)),
        ("R", Some(at)) => Accepted::Repeated(Position(number(at)?)),
        ("X", None) => Accepted::Full,
        (_, _) => return None,
    })
}

/// An entry of a stream: its id, and its fields.
fn position(row: &Reply) -> Option<(Position, &[Reply])> {
    match row.list()? {
        [id, Reply::List(fields)] => {
            let (at, _) = id.text()?.split_once('-')?;
            Some((Position(at.parse().ok()?), fields))
        }
        _ => None,
    }
}

/// A registration, and whether it is over.
fn registration(name: &str, saved: &str) -> Option<(Registration, bool)> {
    let (proxy, aor) = name.split_once(' ')?;
    let mut words = saved.split(' ');
    let mut next = || words.next();
    let (until, at, ended) = (next()?.parse().ok()?, next()?.parse().ok()?, next()? == "1");
    let (until, at) = (EpochMs(until), EpochMs(at));
    Some((Registration { aor: aor.to_owned(), proxy: proxy.parse().ok()?, until, at }, ended))
}
