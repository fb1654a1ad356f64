//! Reads: single items, batches of items, and pages.

use std::collections::BTreeSet;
use std::sync::Arc;

use mintkey_store::{
    BatchGet, ErrorKind, Get, Item, Key, Outcome, Page, Path, Query, Reply, Result, Scan, Table,
    description, json,
};

use crate::keyspace::commands::clean_call;
use crate::keyspace::layout::Layout;
use crate::keyspace::projection::RowProjection;
use crate::keyspace::ranges;
use crate::keyspace::rows::decode_item;
use crate::operations::catalog::decode_entry;
use crate::operations::context::OperationContext;
use crate::operations::page::PageReader;
use crate::protocol::resp;

impl OperationContext<'_> {
    /// Gets an item.
    pub async fn get(&self, get: &Get) -> Result<Reply> {
        get.table.check_key(&get.key)?;
        let keyspace = &self.store.config.keyspace;
        let slot_group = keyspace.slot_group(&get.table, &get.key.partition);
        let (layouts, mut replies) = loop {
            let layouts = self.layouts_to_read(&get.table, &[slot_group]).await?;
            let call = layouts[0].read_call(&get.key);
            if let Some(replies) = self.send_with_epochs(&layouts, vec![call]).await? {
                break (layouts, replies);
            }
        };
        let layout = &layouts[0];
        let reply = replies.pop().unwrap_or(resp::Value::Nil);
        let mut decoder = json::Decoder::default();
        let found = decode_item(reply, &get.table, &get.key, &mut decoder)
            .map_err(|error| error.at(&get.key))?;
        let found = self.unless_expired(layout, &get.key, found).await?;
        Ok(Reply::Item(found.map(|mut item| {
            layout.table.project(&mut item, get.attributes.as_deref());
            item
        })))
    }

    /// Gets several items.
    pub async fn batch_get(&self, batch: &BatchGet) -> Result<Reply> {
        let keyspace = &self.store.config.keyspace;
        let mut slot_groups: BTreeSet<u8> = BTreeSet::new();
        for key in &batch.keys {
            batch.table.check_key(key)?;
            slot_groups.insert(keyspace.slot_group(&batch.table, &key.partition));
        }
        let slot_groups: Vec<u8> = slot_groups.into_iter().collect();
        let layout_index = |key: &Key| {
            let slot_group = keyspace.slot_group(&batch.table, &key.partition);
            slot_groups.binary_search(&slot_group).unwrap_or(0)
        };
        let (layouts, projection, replies) = loop {
            let layouts = self.layouts_to_read(&batch.table, &slot_groups).await?;
            let projection = match (&batch.attributes, layouts.first()) {
                (Some(wanted), Some(layout)) => {
                    RowProjection::of(&layout.table, wanted.iter().filter_map(Path::root))
                }
                _ => RowProjection::All,
            };
            let mut calls = Vec::with_capacity(batch.keys.len() + layouts.len());
            for key in &batch.keys {
                calls.push(projection.call(&layouts[layout_index(key)], key));
            }
            if let Some(replies) = self.send_with_epochs(&layouts, calls).await? {
                break (layouts, projection, replies);
            }
        };
        let mut decoder = json::Decoder::default();
        let mut items = Vec::with_capacity(batch.keys.len());
        for (key, value) in batch.keys.iter().zip(replies) {
            let found = projection
                .item(value, &batch.table, key, &mut decoder)
                .map_err(|error| error.at(key))?;
            let layout = &layouts[layout_index(key)];
            let found = self.unless_expired(layout, key, found).await?;
            items.push(found.map(|mut item| {
                layout.table.project(&mut item, batch.attributes.as_deref());
                item
            }));
        }
        Ok(Reply::Items(items))
    }

    /// The item, unless it has expired. An expired row is deleted.
    pub async fn unless_expired(
        &self,
        layout: &Layout,
        key: &Key,
        item: Option<Item>,
    ) -> Result<Option<Item>> {
        match item {
            Some(item) if layout.table.is_expired(&item, self.now) => {
                let call = clean_call(layout, key, &Layout::member(key), None, Some(&item));
                self.channel.send(vec![call]).await?;
                Ok(None)
            }
            other => Ok(other),
        }
    }

    /// Queries a page.
    pub async fn query(&self, query: &Query) -> Result<Reply> {
        loop {
            if let Some(page) = self.query_page(query).await? {
                return Ok(Reply::Page(page));
            }
        }
    }

    /// Scans a page.
    pub async fn scan(&self, scan: &Scan) -> Result<Reply> {
        loop {
            if let Some(page) = self.scan_page(scan).await? {
                return Ok(Reply::Page(page));
            }
        }
    }

    async fn query_page(&self, query: &Query) -> Result<Option<Page>> {
        let key = query.check()?;
        let table = &query.table;
        // A partition is in one slot group, and so are its index entries.
        let keyspace = &self.store.config.keyspace;
        let slot_groups = match ranges::partition(table, query) {
            Some(partition) => vec![keyspace.slot_group(table, partition)],
            None => keyspace.slot_groups_of(table),
        };
        let layouts = self.layouts_to_read(table, &slot_groups).await?;
        if key.index.is_some() && self.build_indexes(&layouts, key.index).await? {
            return Ok(None);
        }
        let range = ranges::of_query(&layouts[0], &key, query);
        let reader = PageReader {
            context: self,
            table: &layouts[0].table,
            index: key.index,
            filter: query.filter.as_ref(),
            attributes: query.attributes.as_deref(),
            descending: query.descending,
            limit: query.limit,
            count: query.count,
            segment: None,
        };
        reader.read(&layouts, range).await
    }

    async fn scan_page(&self, scan: &Scan) -> Result<Option<Page>> {
        scan.check()?;
        let slot_groups = self.store.config.keyspace.slot_groups_of(&scan.table);
        let mut layouts = self.layouts_to_read(&scan.table, &slot_groups).await?;
        let table = Arc::clone(&layouts[0].table);
        let range = ranges::of_scan(scan);
        let mut segment = scan.segment.filter(|(_, segments)| *segments > 1);
        if let Some((own, segments)) = segment
            && segments as usize <= layouts.len()
        {
            layouts.retain(|layout| u32::from(layout.slot_group) % segments == own);
            segment = None;
        }
        let reader = PageReader {
            context: self,
            table: &table,
            index: None,
            filter: scan.filter.as_ref(),
            attributes: scan.attributes.as_deref(),
            descending: scan.descending,
            limit: scan.limit,
            count: scan.count,
            segment,
        };
        reader.read(&layouts, range).await
    }

    /// The layouts of a table in these slot groups, for a read. A server that takes no writes, such as a replica, cannot
    /// add a slot group to the catalog: there are no rows in it, and its layout has no epoch.
    pub async fn layouts_to_read(
        &self,
        table: &Arc<Table>,
        slot_groups: &[u8],
    ) -> Result<Vec<Arc<Layout>>> {
        match self.layouts(table, slot_groups).await {
            Err(error) if error.kind == ErrorKind::Unavailable(Outcome::NotApplied) => {
                match self.stored_layouts(table, slot_groups).await {
                    Ok(Some(layouts)) => Ok(layouts),
                    Err(stopped) if matches!(stopped.kind, ErrorKind::Interrupted(_)) => {
                        Err(stopped)
                    }
                    Ok(None) | Err(_) => Err(error),
                }
            }
            found => found,
        }
    }

    /// The layouts as the catalog has them; `None` if an entry lacks something of the model.
    async fn stored_layouts(
        &self,
        table: &Arc<Table>,
        slot_groups: &[u8],
    ) -> Result<Option<Vec<Arc<Layout>>>> {
        let keyspace = &self.store.config.keyspace;
        let calls = self.entry_calls(table, slot_groups);
        let mut entries = Vec::with_capacity(calls.len());
        for reply in self.channel.send(calls).await? {
            let entry = decode_entry(reply, table)?;
            if let Some(entry) = &entry
                && (entry.lacks(table)? || description::merge(&entry.table, table)? != entry.table)
            {
                return Ok(None);
            }
            entries.push(entry);
        }
        let absent = |slot_group| {
            let epoch = String::new();
            Layout::new(keyspace, slot_group, Arc::clone(table), epoch, Vec::new())
        };
        let layouts = slot_groups.iter().zip(entries).map(|(slot_group, entry)| {
            Arc::new(match entry {
                Some(entry) => entry.layout(keyspace, *slot_group),
                None => absent(*slot_group),
            })
        });
        Ok(Some(layouts.collect()))
    }
}
