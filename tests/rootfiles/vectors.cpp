// Compiled after helpers.cpp, when the first vectors are written or read (see environment.py). A column of
// vectors travels as the values of all entries, one after the other, and the offsets at which entries begin.

#include <ROOT/RVec.hxx>
#include <TClonesArray.h>
#include <TLeaf.h>
#include <TLine.h>
#include <TTreeReader.h>
#include <TTreeReaderArray.h>

#include <array>

namespace rootfeed_test {

// ------------------------------------------------------------------------------------------------ filling

// What ROOT reads at every Fill(): a container of this entry's values, which lives as long as the process.
template <typename Container, typename Value>
std::uintptr_t add_container(Rows &rows, std::uintptr_t values, std::uintptr_t offsets)
{
   auto to = new Container;
   auto from = reinterpret_cast<const Value *>(values);
   auto places = reinterpret_cast<const std::int64_t *>(offsets);
   rows.loaders.push_back([=](std::size_t entry) {
      to->clear();
      for (auto i = places[entry]; i < places[entry + 1]; ++i)
         to->push_back(from[i]);
   });
   return reinterpret_cast<std::uintptr_t>(to);
}

// Each value in a vector of its own, which has so many of it as the value is large, modulo 4.
std::uintptr_t add_nested(Rows &rows, std::uintptr_t values, std::uintptr_t offsets)
{
   auto to = new std::vector<std::vector<float>>;
   auto from = reinterpret_cast<const float *>(values);
   auto places = reinterpret_cast<const std::int64_t *>(offsets);
   rows.loaders.push_back([=](std::size_t entry) {
      to->clear();
      for (auto i = places[entry]; i < places[entry + 1]; ++i)
         to->emplace_back(i % 4, from[i]);
   });
   return reinterpret_cast<std::uintptr_t>(to);
}

template <typename Container>
void add_branch(TTree &tree, const char *name, std::uintptr_t address, int basket_bytes)
{
   tree.Branch(name, reinterpret_cast<Container *>(address), basket_bytes);
}

// A C array with room for the longest entry, and the number of its elements, if anybody asks.
std::uintptr_t add_array(Rows &rows, std::uintptr_t values, std::uintptr_t offsets, std::size_t bytes,
                         std::size_t most, std::uintptr_t count)
{
   auto to = new char[bytes * most + 16];
   auto from = reinterpret_cast<const char *>(values);
   auto places = reinterpret_cast<const std::int64_t *>(offsets);
   rows.loaders.push_back([=](std::size_t entry) {
      auto elements = places[entry + 1] - places[entry];
      std::memcpy(to, from + bytes * places[entry], bytes * elements);
      if (count)
         *reinterpret_cast<int *>(count) = elements;
   });
   return reinterpret_cast<std::uintptr_t>(to);
}

void add_leaves(TTree &tree, const char *name, std::uintptr_t address, const char *leaves, int basket_bytes)
{
   tree.Branch(name, reinterpret_cast<void *>(address), leaves, basket_bytes);
}

// A split TClonesArray whose members are `name.fX1` (double), `name.fLineColor` (short) and so on.
void add_lines(TTree &tree, Rows &rows, const char *name, std::uintptr_t values, std::uintptr_t offsets,
               int basket_bytes)
{
   auto to = new TClonesArray("TLine");
   auto from = reinterpret_cast<const double *>(values);
   auto places = reinterpret_cast<const std::int64_t *>(offsets);
   rows.loaders.push_back([=](std::size_t entry) {
      to->Clear();
      for (auto i = places[entry]; i < places[entry + 1]; ++i) {
         auto line = new ((*to)[i - places[entry]]) TLine(from[i], 1.0, 2.0, 3.0);
         line->SetLineColor(i % 1000);
      }
   });
   tree.Branch(name, to, basket_bytes, 99);
}

// ------------------------------------------------------------------------------------------- RNTuple writer

// A field of elements, with the encodings of its offsets (none of an array) and of its elements.
void add_vector_field(NtupleWriter &writer, const std::string &name, const std::string &type, std::uintptr_t address,
                      const Encodings &offsets, const Encodings &elements, std::size_t bits, double low, double high)
{
   auto field = ROOT::RFieldBase::Create(name, type).Unwrap();
   auto element = field->GetMutableSubfields()[0];
   if (bits && !set_precision<float>(*element, bits, low, high) && !set_precision<double>(*element, bits, low, high))
      throw std::runtime_error("only float and double take a width: " + type);
   if (!elements.empty())
      element->SetColumnRepresentatives(selection(elements));
   if (!offsets.empty())
      field->SetColumnRepresentatives(selection(offsets));
   writer.add_field(std::move(field), address);
}

// ------------------------------------------------------------------------------------------------ reading

struct Vectors {
   std::vector<std::int64_t> offsets{0};
   std::string bytes;

   void append(const void *from, std::size_t elements, std::size_t element_bytes)
   {
      bytes.append(reinterpret_cast<const char *>(from), elements * element_bytes);
      offsets.push_back(offsets.back() + elements);
   }
   std::uintptr_t offsets_address() const { return reinterpret_cast<std::uintptr_t>(offsets.data()); }
   std::uintptr_t bytes_address() const { return reinterpret_cast<std::uintptr_t>(bytes.data()); }
};

// ROOT's own reading of a leaf that is an array, or that another one counts.
Vectors read_leaf_vectors(TLeaf &leaf, std::size_t element_bytes, std::size_t entries)
{
   Vectors result;
   for (std::size_t entry = 0; entry < entries; ++entry) {
      if (leaf.GetLeafCount())
         leaf.GetLeafCount()->GetBranch()->GetEntry(entry);
      leaf.GetBranch()->GetEntry(entry);
      result.append(leaf.GetValuePointer(), leaf.GetLen(), element_bytes);
   }
   return result;
}

// ROOT's own reading of a branch that TTreeReader knows as an array: std::vector, member of a TClonesArray.
template <typename Value>
Vectors read_branch_vectors(TTree &tree, const char *name)
{
   Vectors result;
   TTreeReader reader(&tree);
   TTreeReaderArray<Value> array(reader, name);
   while (reader.Next()) {
      std::vector<Value> values(array.begin(), array.end());
      result.append(values.data(), values.size(), sizeof(Value));
   }
   return result;
}

Vectors read_bools(TTree &tree, const char *name)
{
   Vectors result;
   std::vector<bool> *from = nullptr;
   tree.SetBranchAddress(name, &from);
   for (Long64_t entry = 0; entry < tree.GetEntries(); ++entry) {
      tree.GetBranch(name)->GetEntry(entry);
      std::string values(from->begin(), from->end());
      result.append(values.data(), values.size(), 1);
   }
   tree.ResetBranchAddresses();
   return result;
}

// ROOT's own reading of a field of several elements.
template <typename Value>
Vectors read_field_vectors(const std::string &ntuple, const std::string &path, const std::string &name)
{
   Vectors result;
   auto reader = ROOT::RNTupleReader::Open(ntuple, path);
   auto view = reader->GetView<ROOT::RVec<Value>>(name);
   for (auto entry : reader->GetEntryRange()) {
      const auto &values = view(entry);
      result.append(values.data(), values.size(), sizeof(Value));
   }
   return result;
}

} // namespace rootfeed_test
