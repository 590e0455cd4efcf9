// What writes the columns of a node of RDataFrame, as ROOT's interpreter compiles it: see running.py.
#ifndef ROOTFEED_NODES
#define ROOTFEED_NODES
#pragma cling optimize(2)
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>
namespace rootfeed_nodes {
// A file that is open only while something is appended to it: there may be more columns than open files.
class File {
   std::string fPath;
   std::vector<char> fBuffer;
   std::size_t fUsed = 0;
   void Store(const void *data, std::size_t size) {
      std::FILE *file = std::fopen(fPath.c_str(), "ab");
      bool good = file && std::fwrite(data, 1, size, file) == size;
      if (file)
         good = std::fclose(file) == 0 && good;
      if (!good)
         throw std::runtime_error("cannot write to " + fPath + ": " + std::strerror(errno));
   }
public:
   explicit File(const std::string &path) : fPath(path), fBuffer(1 << 15) {}
   void Write(const void *data, std::size_t size) {
      if (fUsed + size > fBuffer.size())
         Flush();
      if (size > fBuffer.size())
         return Store(data, size);
      std::memcpy(fBuffer.data() + fUsed, data, size);
      fUsed += size;
   }
   void Flush() {
      Store(fBuffer.data(), fUsed);
      fUsed = 0;
   }
};
class Column {
   File fValues;
   std::unique_ptr<File> fEnds; // of vectors: where they end, after a 0
   std::int64_t fEnd = 0;
public:
   Column(const std::string &path, bool isVector) : fValues(path + ".values") {
      if (isVector) {
         fEnds = std::make_unique<File>(path + ".ends");
         fEnds->Write(&fEnd, sizeof fEnd);
      }
   }
   template <typename T> void Put(const T &value) { fValues.Write(&value, sizeof value); }
   template <typename T> void Put(const ROOT::RVec<T> &some) { PutAll(some.data(), some.size()); }
   template <typename T> void Put(const std::vector<T> &some) { PutAll(some.data(), some.size()); }
   void Put(const std::vector<bool> &some) {
      ROOT::RVec<bool> plain(some.begin(), some.end());
      PutAll(plain.data(), plain.size());
   }
   void Put(const std::string &text) { PutAll(text.data(), text.size()); }
   template <typename T> void PutAll(const T *values, std::size_t count) {
      fValues.Write(values, count * sizeof(T));
      fEnd += count;
      fEnds->Write(&fEnd, sizeof fEnd);
   }
   void Flush() {
      fValues.Flush();
      if (fEnds)
         fEnds->Flush();
   }
};
using Columns = std::deque<Column>;
struct Rows {
   std::vector<std::string> samples;   // ROOT's names of them
   std::vector<std::uint64_t> starts;  // the first row of each
   std::uint64_t count = 0;
};
template <typename... Ts>
class Write : public ROOT::Detail::RDF::RActionImpl<Write<Ts...>> {
   std::shared_ptr<Columns> fColumns;
   std::shared_ptr<Rows> fRows = std::make_shared<Rows>();
   template <std::size_t... Is>
   void Put(std::index_sequence<Is...>, const Ts &...values) { ((*fColumns)[Is].Put(values), ...); }
public:
   using Result_t = Rows;
   explicit Write(std::shared_ptr<Columns> columns) : fColumns(std::move(columns)) {}
   std::shared_ptr<Rows> GetResultPtr() const { return fRows; }
   void Initialize() {}
   void InitTask(TTreeReader *, unsigned int) {}
   void Exec(unsigned int, const Ts &...values) {
      Put(std::index_sequence_for<Ts...>{}, values...);
      ++fRows->count;
   }
   void Finalize() {} // must not throw: `run` writes the rest
   std::string GetActionName() { return "rootfeed"; }
   ROOT::RDF::SampleCallback_t GetSampleCallback() final {
      return [rows = fRows](unsigned int, const ROOT::RDF::RSampleInfo &info) {
         rows->samples.push_back(info.AsString());
         rows->starts.push_back(rows->count);
      };
   }
};
template <typename... Ts>
Rows run(ROOT::RDF::RNode node, const std::vector<std::string> &names, const std::vector<int> &vectors,
         const std::string &folder) {
   auto columns = std::make_shared<Columns>();
   for (std::size_t i = 0; i < names.size(); ++i)
      columns->emplace_back(folder + "/" + std::to_string(i), vectors[i] != 0);
   Rows rows = node.Book<Ts...>(Write<Ts...>(columns), names).GetValue();
   for (auto &each : *columns)
      each.Flush();
   return rows;
}
}  // namespace rootfeed_nodes
#endif
