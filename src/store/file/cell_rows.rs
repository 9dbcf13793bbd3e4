//! What stands in the file of cells. The tables come with the first cell: a file without any has none of them.

use crate::domain::id::{CellId, ProxyId, QueueId};
use crate::domain::time::EpochMs;
use crate::store::cell::tracked::Part;
use crate::store::cell::{CellChanges, Head, Saved, SavedRegistration, Token};
use redb::{
    Key, ReadOnlyTable, ReadTransaction, ReadableTable as _, Table, TableDefinition, TableError, Value,
    WriteTransaction,
};
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt::Display;

/// Epoch, the one before, granted epoch, holder (empty: none), seq, its epoch, cursor, clock, last position of the inbox, of the outbox,
/// whether a rewrite has begun.
type HeadRow<'a> = (u64, u64, u64, &'a str, u64, u64, u64, u64, u64, u64, bool);
/// Cell → its numbers.
const CELLS: TableDefinition<&str, HeadRow> = TableDefinition::new("mqs.cells");
/// Cell, name → text.
const RECORDS: TableDefinition<(&str, &str), &str> = TableDefinition::new("mqs.cell.records");
/// Cell, queue, call → where it stands.
const PLACES: TableDefinition<(&str, &str, &str), u64> = TableDefinition::new("mqs.cell.places");
/// Cell, offer → epoch, leg (empty: unused).
const TOKENS: TableDefinition<(&str, &str), (u64, &str)> = TableDefinition::new("mqs.cell.tokens");
/// Cell, position → key, text.
const INBOX: TableDefinition<(&str, u64), (&str, &str)> = TableDefinition::new("mqs.cell.inbox");
/// Cell, key → position, when it was sent.
const KEYS: TableDefinition<(&str, &str), (u64, u64)> = TableDefinition::new("mqs.cell.keys");
/// Cell, position → text.
const OUTBOX: TableDefinition<(&str, u64), &str> = TableDefinition::new("mqs.cell.outbox");
/// Cell, group → position.
const GROUPS: TableDefinition<(&str, &str), u64> = TableDefinition::new("mqs.cell.groups");
/// Call-ID, CSeq, when it was refreshed, when it is forgotten, whether it is over.
type RegistrationRow<'a> = (&'a str, u32, u64, u64, bool);
/// Cell, address-of-record, proxy → what is known of it.
const REGISTRATIONS: TableDefinition<(&str, &str, &str), RegistrationRow> =
    TableDefinition::new("mqs.cell.registrations");

/// Writes what has changed of a cell.
pub(super) fn write(
    write: &WriteTransaction,
    cell: &CellId,
    changes: &CellChanges,
) -> Result<(), redb::Error> {
    let cell = cell.as_str();
    // The text that comes next: nothing is between them.
    let next = format!("{cell}\0");
    let next = next.as_str();
    let head = &changes.head;
    let row: HeadRow = (
        head.epoch,
        head.before,
        head.granted,
        head.holder.as_deref().unwrap_or_default(),
        head.seq,
        head.seq_epoch,
        head.cursor,
        head.clock,
        head.sent,
        head.told,
        head.partial,
    );
    write.open_table(CELLS)?.insert(cell, row)?;

    if let Some(mut table) = opened(write, RECORDS, &changes.records)? {
        if changes.records.cleared {
            table.retain_in((cell, "")..(next, ""), |_, _| false)?;
        }
        for (name, text) in &changes.records.rows {
            put(&mut table, (cell, name.as_str()), text.as_deref())?;
        }
    }
    if let Some(mut table) = opened(write, PLACES, &changes.places)? {
        if changes.places.cleared {
            table.retain_in((cell, "", "")..(next, "", ""), |_, _| false)?;
        }
        for ((queue, call), score) in &changes.places.rows {
            put(&mut table, (cell, queue.as_str(), call.as_str()), *score)?;
        }
    }
    if let Some(mut table) = opened(write, TOKENS, &changes.tokens)? {
        if changes.tokens.cleared {
            table.retain_in((cell, "")..(next, ""), |_, _| false)?;
        }
        for (offer, token) in &changes.tokens.rows {
            let row = token.as_ref().map(|token| (token.epoch, token.leg.as_deref().unwrap_or_default()));
            put(&mut table, (cell, offer.as_str()), row)?;
        }
    }
    // The rest is never cleared at once.
    if let Some(mut table) = opened(write, INBOX, &changes.inbox)? {
        for (position, sent) in &changes.inbox.rows {
            let row = sent.as_ref().map(|(key, text)| (key.as_str(), text.as_str()));
            put(&mut table, (cell, *position), row)?;
        }
    }
    if let Some(mut table) = opened(write, KEYS, &changes.keys)? {
        for (key, sent) in &changes.keys.rows {
            put(&mut table, (cell, key.as_str()), sent.map(|(position, at)| (position, at.0)))?;
        }
    }
    if let Some(mut table) = opened(write, OUTBOX, &changes.outbox)? {
        for (position, text) in &changes.outbox.rows {
            put(&mut table, (cell, *position), text.as_deref())?;
        }
    }
    if let Some(mut table) = opened(write, GROUPS, &changes.groups)? {
        for (group, position) in &changes.groups.rows {
            put(&mut table, (cell, group.as_str()), *position)?;
        }
    }
    if let Some(mut table) = opened(write, REGISTRATIONS, &changes.registrations)? {
        for ((aor, proxy), saved) in &changes.registrations.rows {
            let row = saved.as_ref().map(|s| (s.call_id.as_str(), s.cseq, s.at.0, s.until.0, s.ended));
            put(&mut table, (cell, aor.as_str(), proxy.as_str()), row)?;
        }
    }
    Ok(())
}

/// The table, if there is something to write.
fn opened<'t, K: Key + 'static, V: Value + 'static, N, T>(
    write: &'t WriteTransaction,
    table: TableDefinition<K, V>,
    part: &Part<N, T>,
) -> Result<Option<Table<'t, K, V>>, redb::Error> {
    if !part.cleared && part.rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(write.open_table(table)?))
}

fn put<'k, 'v, K: Key + 'static, V: Value + 'static>(
    table: &mut Table<'_, K, V>,
    name: impl Borrow<K::SelfType<'k>>,
    value: Option<impl Borrow<V::SelfType<'v>>>,
) -> Result<(), redb::Error> {
    match value {
        Some(value) => table.insert(name, value)?,
        None => table.remove(name)?,
    };
    Ok(())
}

/// Reads all cells.
pub(super) fn read(read: &ReadTransaction) -> Result<BTreeMap<CellId, Saved>, String> {
    let mut cells = BTreeMap::new();
    each(read, CELLS, |name, row| {
        let (epoch, before, granted, holder, seq, seq_epoch, cursor, clock, sent, told, partial) = row;
        let holder = Some(holder.to_owned()).filter(|holder| !holder.is_empty());
        let head =
            Head { epoch, before, granted, holder, seq, seq_epoch, cursor, clock, sent, told, partial };
        let id: CellId = parsed("cell", name)?;
        cells.insert(id, Saved { head, ..Saved::default() });
        Ok(())
    })?;
    each(read, RECORDS, |(cell, name), text| {
        known(&mut cells, cell)?.records.insert(name.to_owned(), text.to_owned());
        Ok(())
    })?;
    each(read, PLACES, |(cell, queue, call), score| {
        let queue: QueueId = parsed("queue", queue)?;
        known(&mut cells, cell)?.places.insert((queue, call.to_owned()), score);
        Ok(())
    })?;
    each(read, TOKENS, |(cell, offer), (epoch, leg)| {
        let leg = Some(leg.to_owned()).filter(|leg| !leg.is_empty());
        known(&mut cells, cell)?.tokens.insert(offer.to_owned(), Token { epoch, leg });
        Ok(())
    })?;
    each(read, INBOX, |(cell, position), (key, text)| {
        known(&mut cells, cell)?.inbox.insert(position, (key.to_owned(), text.to_owned()));
        Ok(())
    })?;
    each(read, KEYS, |(cell, key), (position, at)| {
        known(&mut cells, cell)?.keys.insert(key.to_owned(), (position, EpochMs(at)));
        Ok(())
    })?;
    each(read, OUTBOX, |(cell, position), text| {
        known(&mut cells, cell)?.outbox.insert(position, text.to_owned());
        Ok(())
    })?;
    each(read, GROUPS, |(cell, group), position| {
        known(&mut cells, cell)?.groups.insert(group.to_owned(), position);
        Ok(())
    })?;
    each(read, REGISTRATIONS, |(cell, aor, proxy), (call_id, cseq, at, until, ended)| {
        let saved = SavedRegistration {
            call_id: call_id.to_owned(),
            cseq,
            at: EpochMs(at),
            until: EpochMs(until),
            ended,
        };
        let proxy: ProxyId = parsed("proxy", proxy)?;
        known(&mut cells, cell)?.registrations.insert((aor.to_owned(), proxy), saved);
        Ok(())
    })?;
    Ok(cells)
}

/// Hands on each row of a table, if there is one.
fn each<K: Key + 'static, V: Value + 'static>(
    read: &ReadTransaction,
    table: TableDefinition<K, V>,
    mut take: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> Result<(), String>,
) -> Result<(), String> {
    let rows: ReadOnlyTable<K, V> = match read.open_table(table) {
        Ok(rows) => rows,
        Err(TableError::TableDoesNotExist(_)) => return Ok(()),
        Err(e) => return Err(e.to_string()),
    };
    for row in rows.iter().map_err(|e| e.to_string())? {
        let (key, value) = row.map_err(|e| e.to_string())?;
        take(key.value(), value.value())?;
    }
    Ok(())
}

fn parsed<T: std::str::FromStr<Err: Display>>(what: &str, name: &str) -> Result<T, String> {
    name.parse().map_err(|e| format!("{what} {name:?}: {e}"))
}

fn known<'a>(cells: &'a mut BTreeMap<CellId, Saved>, cell: &str) -> Result<&'a mut Saved, String> {
    let id: CellId = parsed("cell", cell)?;
    cells.get_mut(&id).ok_or_else(|| format!("cell {cell:?} has rows and no numbers"))
}
