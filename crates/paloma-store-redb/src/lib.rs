//! Paloma's durable store: redb behind the broker's store port.
#![doc = include_str!("../README.md")]

pub mod disk;
