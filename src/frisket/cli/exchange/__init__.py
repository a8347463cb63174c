"""Commands that hand files over: conversion, import from other trainers, shards."""
